// SME (aarch64): whole products as outer products, in tiles of the vector length of streaming mode;
// all else as in NEON.
#include <arm_sme.h>

#include "../kernels/outer.h"
#include "neon.h"

namespace microgpt {
namespace {
namespace unit {

#define STREAMING __arm_streaming __arm_inout("za")
#define CLEARED                                                                                  \
  "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",     \
      "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", \
      "v26", "v27", "v28", "v29", "v30", "v31"

constexpr int kColumns = 16;  // of a panel, and lanes that are used at most
constexpr int kDepth = 256;   // terms for which rows are transposed at a time

PYMICROGPT_INLINE int least(int a, int b) __arm_streaming_compatible { return a < b ? a : b; }

// Four vectors of either side of the tiles, and which of their lanes count.
struct Side {
  const float* v[4];
  int lanes[4];
};

template <int I>
PYMICROGPT_INLINE svbool_t lanes_of(const Side& s) STREAMING {
  return svwhilelt_b32_s32(0, s.lanes[I]);
}
template <bool Used>
PYMICROGPT_INLINE svfloat32_t load(svbool_t lanes, const float* p) STREAMING {
  if constexpr (Used) return svld1_f32(lanes, p);
  else return svundef_f32();
}
template <int I, class T>
PYMICROGPT_INLINE T one_of(T a, T b, T c, T d) STREAMING {
  if constexpr (I == 0) return a;
  else if constexpr (I == 1) return b;
  else if constexpr (I == 2) return c;
  else return d;
}

// Tile t of R x C: rows t / C, columns t % C. From y, or to it.
template <int T, int C, bool Store>
PYMICROGPT_INLINE void move_tile(const Side& a, const Side& b, float* y, int64_t y_step,
                                 const int64_t (&column)[4], int lanes) STREAMING {
  const svbool_t columns = svwhilelt_b32_s32(0, b.lanes[T % C]);
  float* to = y + T / C * lanes * y_step + column[T % C];
  for (int i = 0; i < a.lanes[T / C]; ++i, to += y_step) {
    if constexpr (Store) svst1_hor_za32(T, i, columns, to);
    else svld1_hor_za32(T, i, columns, to);
  }
}
template <int R, int C, bool Store>
PYMICROGPT_INLINE void move_tiles(const Side& a, const Side& b, float* y, int64_t y_step,
                                  const int64_t (&column)[4], int lanes) STREAMING {
  move_tile<0, C, Store>(a, b, y, y_step, column, lanes);
  if constexpr (R * C > 1) move_tile<1, C, Store>(a, b, y, y_step, column, lanes);
  if constexpr (R * C > 2) move_tile<2, C, Store>(a, b, y, y_step, column, lanes);
  if constexpr (R * C > 3) move_tile<3, C, Store>(a, b, y, y_step, column, lanes);
}

// ZA += the outer products of R vectors of a and C of b, for every n.
template <int R, int C>
PYMICROGPT_INLINE void outer_products(const Side& a, int64_t a_step, const Side& b, int64_t b_step,
                                      int depth) STREAMING {
  const svbool_t ap0 = lanes_of<0>(a), ap1 = lanes_of<1>(a), ap2 = lanes_of<2>(a),
                 ap3 = lanes_of<3>(a), bp0 = lanes_of<0>(b), bp1 = lanes_of<1>(b),
                 bp2 = lanes_of<2>(b), bp3 = lanes_of<3>(b);
  const float *a0 = a.v[0], *a1 = a.v[1], *a2 = a.v[2], *a3 = a.v[3];
  const float *b0 = b.v[0], *b1 = b.v[1], *b2 = b.v[2], *b3 = b.v[3];
  int64_t at_a = 0, at_b = 0;
  for (int n = 0; n < depth; ++n, at_a += a_step, at_b += b_step) {
    const svfloat32_t x0 = load<true>(ap0, a0 + at_a), x1 = load<(R > 1)>(ap1, a1 + at_a),
                      x2 = load<(R > 2)>(ap2, a2 + at_a), x3 = load<(R > 3)>(ap3, a3 + at_a),
                      y0 = load<true>(bp0, b0 + at_b), y1 = load<(C > 1)>(bp1, b1 + at_b),
                      y2 = load<(C > 2)>(bp2, b2 + at_b), y3 = load<(C > 3)>(bp3, b3 + at_b);
#define TILE(t)                                                                              \
  if constexpr (t < R * C)                                                                   \
  svmopa_za32_f32_m(t, one_of<t / C>(ap0, ap1, ap2, ap3), one_of<t % C>(bp0, bp1, bp2, bp3), \
                    one_of<t / C>(x0, x1, x2, x3), one_of<t % C>(y0, y1, y2, y3))
    TILE(0);
    TILE(1);
    TILE(2);
    TILE(3);
#undef TILE
  }
}

// Rows of a as columns: to[n][r] for up to `lanes` rows and all n of the part, through a tile.
PYMICROGPT_INLINE void transpose(const OuterProducts& p, int row, int rows, int first, int depth,
                                 float* to, int64_t step, int lanes) STREAMING {
  const svbool_t here = svwhilelt_b32_s32(0, rows);
  for (int n = 0; n < depth; n += lanes) {
    const int some = least(lanes, depth - n), at = first + n;
    const svbool_t terms = svwhilelt_b32_s32(0, some);
    const float* from = p.a + row * p.a_step + at / kColumns * p.a_panel + at % kColumns;
    for (int i = 0; i < rows; ++i, from += p.a_step) svld1_hor_za32(0, i, terms, from);
    for (int i = 0; i < some; ++i, to += step)
      svst1_f32(here, to, svread_ver_za32_f32_m(svundef_f32(), here, 0, i));
  }
}

template <int R, int C>
PYMICROGPT_INLINE void tiles(const Side& a, int64_t a_step, const Side& b, int64_t b_step,
                             int depth, float* y, int64_t y_step, const int64_t (&column)[4],
                             int lanes, bool first) STREAMING {
  if (first) svzero_za();
  else move_tiles<R, C, false>(a, b, y, y_step, column, lanes);
  outer_products<R, C>(a, a_step, b, b_step, depth);
  move_tiles<R, C, true>(a, b, y, y_step, column, lanes);
}

// All of a product. Up to four tiles at a time, so that one outer product need not wait for the one
// before: two by two where there are as many, which takes a load for each outer product.
PYMICROGPT_NOINLINE void in_streaming_mode(const OuterProducts& shared) STREAMING {
  const OuterProducts p = shared;  // a copy, which no store can alias
  alignas(64) float transposed[kDepth * 4 * kColumns];
  const int lanes = least(static_cast<int>(svcntw()), kColumns);
  const int most_rows = 4 * lanes, columns = p.panels * kColumns;
  const int part = p.by_row ? kDepth : p.depth;
  for (int n = 0; n < p.depth; n += part)
    for (int row = 0; row < p.rows; row += most_rows) {
      const int depth = least(part, p.depth - n), rows = least(most_rows, p.rows - row);
      const int64_t a_step = p.by_row ? most_rows : p.a_step;
      Side a{};
      for (int i = 0, r = 0; r < rows; ++i, r += lanes) {
        a.lanes[i] = least(lanes, rows - r);
        a.v[i] = p.by_row ? transposed + r
                          : p.a + (row + r) / kColumns * p.a_panel + (row + r) % kColumns;
      }
      if (p.by_row)
        for (int r = 0; r < rows; r += lanes)
          transpose(p, row + r, least(lanes, rows - r), n, depth, transposed + r, most_rows, lanes);
      const int row_vectors = (rows + lanes - 1) / lanes, column_vectors = columns / lanes;
      const int R = column_vectors == 1 ? 4 : row_vectors == 1 ? 1 : 2, C = 4 / R;
      for (int r = 0; r < row_vectors; r += R)
        for (int c = 0; c < column_vectors; c += C) {
          const int some_rows = least(R, row_vectors - r), some = least(C, column_vectors - c);
          Side left{}, right{};
          int64_t column[4] = {};
          for (int i = 0; i < some_rows; ++i) {
            left.v[i] = a.v[r + i];
            left.lanes[i] = a.lanes[r + i];
          }
          for (int i = 0; i < some; ++i) {
            const int at = (c + i) * lanes;
            right.v[i] = p.b + n * p.b_step + at / kColumns * p.b_panel + at % kColumns;
            right.lanes[i] = lanes;
            column[i] = at / kColumns * p.y_panel + at % kColumns;
          }
          float* y = p.y + (row + r * lanes) * p.y_step;
#define TILES(R, C)                                                                        \
  case 4 * R + C:                                                                          \
    tiles<R, C>(left, a_step, right, p.b_step, depth, y, p.y_step, column, lanes, n == 0); \
    break
          switch (4 * some_rows + some) {
            TILES(1, 1);
            TILES(1, 2);
            TILES(1, 3);
            TILES(1, 4);
            TILES(2, 1);
            TILES(2, 2);
            TILES(3, 1);
            TILES(4, 1);
          }
#undef TILES
        }
    }
}

// The same by vectors, to the bit.
PYMICROGPT_NOINLINE void in_vectors(const OuterProducts& p) {
  for (int r = 0; r < p.rows; ++r)
    for (int c = 0; c < p.panels * kColumns; c += Vec::lanes) {
      const float* b = p.b + c / kColumns * p.b_panel + c % kColumns;
      Vec sum = Vec::set(0.0f);
      for (int n = 0; n < p.depth; ++n, b += p.b_step) {
        const int64_t at = p.by_row ? r * p.a_step + n / kColumns * p.a_panel + n % kColumns
                                    : n * p.a_step + r / kColumns * p.a_panel + r % kColumns;
        sum = fma(Vec::set(p.a[at]), Vec::load(b), sum);
      }
      sum.store(p.y + r * p.y_step + c / kColumns * p.y_panel + c % kColumns);
    }
}

struct Sme {
  static constexpr bool there = true;
  // One change of mode for a product. Where a caller of ours keeps something in ZA, the product is
  // done without it, so that nothing has to be saved.
  PYMICROGPT_NOINLINE static void sum(const OuterProducts& p) {
    uint64_t svcr;
    __asm__ volatile("mrs %0, svcr" : "=r"(svcr));
    if (svcr != 0) return in_vectors(p);
    // By hand, because what the compiler would do needs routines that not every libgcc has: it does
    // not see that the call is one of a streaming function. Changing the mode clears registers.
    auto call = reinterpret_cast<void (*)(const OuterProducts&)>(&in_streaming_mode);
    __asm__ volatile("smstart" : "+r"(call) : : CLEARED);
    call(p);
    __asm__ volatile("smstop" : : : CLEARED);
  }
};

}  // namespace unit

template <>
struct UnitOf<Vec> {
  using type = unit::Sme;
};

}  // namespace
}  // namespace microgpt

#include "export.h"
