// Sixteen floats at a time. Everything here and below is written once over Vec, the vector type
// that the including file in isa/ defines, and lives in its anonymous namespace.
//
// Activations are kept in panels: features 16p .. 16p+15 of all rows stand together, one row every
// 16 floats, so that the addresses inside a tile are constants whatever the model's width. Each row
// of a panel is four quads of four. Attention puts one head in each quad (see attention.h); a sum
// over a head is then a sum inside quads, on every ISA.
#pragma once
#include "../arena.h"
#include "../batch.h"
#include "../config.h"
#include "../engine.h"
#include "../params.h"
#include "contract.h"
#include "math.h"
#include "outer.h"

namespace microgpt {
namespace {

constexpr float kMinusInf = -__builtin_inff();

constexpr int kVectors = kPanel / Vec::lanes;  // in sixteen floats

using Unit = UnitOf<Vec>::type;  // for whole products

PYMICROGPT_INLINE int panels_of(int features) { return (features + kPanel - 1) / kPanel; }

// A number as a type, to hand to a generic lambda.
template <int N>
struct Constant {
  static constexpr int value = N;
  PYMICROGPT_INLINE constexpr operator int() const { return N; }
};

// f(Constant<n>) where n is one of Sizes, which have code of their own, and f(Constant<0>)
// elsewhere; only the first of them has where code is to be small.
template <int First, int... Sizes, class F>
PYMICROGPT_INLINE void with_one_of(int n, F f) {
  if constexpr (Vec::compact) {
    if (n == First) f(Constant<First>());
    else f(Constant<0>());
  } else if (!(n == First ? (f(Constant<First>()), true)
                          : ((n == Sizes ? (f(Constant<Sizes>()), true) : false) || ...))) {
    f(Constant<0>());
  }
}

// f(Constant<n>) for n = 1 .. Most.
template <int Most, class F>
PYMICROGPT_INLINE void with_up_to(int n, F f) {
  if constexpr (Most > 1) {
    if (n < Most) return with_up_to<Most - 1>(n, f);
  }
  f(Constant<Most>());
}

// Rows first .. last - 1.
struct Span {
  int first, last;
};

// The work of one thread among several. What every thread gets depends on how many there are, what
// is computed does not: rows are independent, and a sum over rows is never split.
struct Share {
  int rank, size;
  int turn = 0;

  // This thread's part of `total` rows, in whole panels of sixteen: the MLP has rows in its lanes.
  PYMICROGPT_INLINE Span of(int total) const {
    if (size == 1) return {0, total};  // without a division
    const int64_t groups = panels_of(total);
    const int first = static_cast<int>(groups * rank / size * kPanel);
    const int last = static_cast<int>(groups * (rank + 1) / size * kPanel);
    return {first < total ? first : total, last < total ? last : total};
  }
  // Whether the next of a sequence of tasks, which all threads walk alike, is this thread's.
  PYMICROGPT_INLINE bool mine() {
    const bool yes = turn == rank;
    turn = turn + 1 == size ? 0 : turn + 1;
    return yes;
  }
};

// Some rows by some panels of an array, from `first` on: sixteen floats each at at(r, p).
struct Tile {
  float* first;
  int64_t row_step, panel_step;
  PYMICROGPT_INLINE float* at(int r, int p) const { return first + r * row_step + p * panel_step; }
  // The same, without what the compiler knows of it: else it computes all addresses before a loop,
  // for which there are not enough registers, and keeps them until after it.
  PYMICROGPT_INLINE Tile anew() const {
    float* same = first;
    PYMICROGPT_FORGET(same);
    return {same, row_step, panel_step};
  }
};

// Activations (panels, rows, 16); said of them as (features, rows).
struct Panels {
  float* data;
  int64_t stride;  // floats between panels: 16 times the rows that there is room for

  // Of panel p, the row at `offset`, which is its index times 16.
  PYMICROGPT_INLINE float* at(int p, int64_t offset) const { return data + p * stride + offset; }
  PYMICROGPT_INLINE Tile tile(int64_t row, int p) const {
    return {at(p, row * kPanel), kPanel, stride};
  }
  PYMICROGPT_INLINE static constexpr int64_t row_step() { return kPanel; }
  PYMICROGPT_INLINE int64_t panel_step() const { return stride; }
  static constexpr bool fetched = false;
  static constexpr bool paired = true;  // as an operand of a product with one panel of outputs
};

// N floats in as many vectors as they take.
template <class V, int N>
struct Floats {
  using Vector = V;
  static constexpr int vectors = N / V::lanes;
  V v[vectors];

#define EACH PYMICROGPT_UNROLL for (int u = 0; u < N / V::lanes; ++u)
  PYMICROGPT_INLINE static Floats load(const float* p) {
    Floats r;
    EACH r.v[u] = V::load(p + u * V::lanes);
    return r;
  }
  PYMICROGPT_INLINE static Floats set(float x) {
    Floats r;
    EACH r.v[u] = V::set(x);
    return r;
  }
  // The same four floats in every quad.
  PYMICROGPT_INLINE static Floats load_quad(const float* p) {
    Floats r;
    EACH r.v[u] = V::load_quad(p);
    return r;
  }
  // The same two floats everywhere.
  PYMICROGPT_INLINE static Floats load_pair(const float* p) {
    Floats r;
    EACH r.v[u] = V::load_pair(p);
    return r;
  }
  PYMICROGPT_INLINE void store(float* p) const { EACH v[u].store(p + u * V::lanes); }
  PYMICROGPT_INLINE void store_quad(float* p) const { v[0].store_quad(p); }  // the first quad
};

// Vec, or what an instruction set has for half as many floats.
template <class V, bool Shorter>
struct VecOr {
  using type = V;
};
template <class V>
struct VecOr<V, true> {
  using type = typename V::Half;
};

using Vec16 = Floats<Vec, kPanel>;
template <int N>  // 8 or 16
using VecUpTo = Floats<typename VecOr<Vec, (Vec::lanes > N)>::type, N>;

#define UNARY(name)                                            \
  template <class V, int N>                                    \
  PYMICROGPT_INLINE Floats<V, N> name(const Floats<V, N>& a) { \
    Floats<V, N> r;                                            \
    EACH r.v[u] = name(a.v[u]);                                \
    return r;                                                  \
  }
#define BINARY(name)                                                                  \
  template <class V, int N>                                                           \
  PYMICROGPT_INLINE Floats<V, N> name(const Floats<V, N>& a, const Floats<V, N>& b) { \
    Floats<V, N> r;                                                                   \
    EACH r.v[u] = name(a.v[u], b.v[u]);                                               \
    return r;                                                                         \
  }
#define TERNARY(name)                                                               \
  template <class V, int N>                                                         \
  PYMICROGPT_INLINE Floats<V, N> name(const Floats<V, N>& a, const Floats<V, N>& b, \
                                      const Floats<V, N>& c) {                      \
    Floats<V, N> r;                                                                 \
    EACH r.v[u] = name(a.v[u], b.v[u], c.v[u]);                                     \
    return r;                                                                       \
  }
BINARY(operator+)
BINARY(operator-)
BINARY(operator*)
BINARY(operator/)
BINARY(max)
UNARY(sqrt)
UNARY(exp)
UNARY(log)
UNARY(quad_sum)  // over the four of a quad, in each of them
UNARY(quad_max)
TERNARY(fma)            // a * b + c
TERNARY(where_greater)  // a > b ? c : 0
#undef UNARY
#undef BINARY
#undef TERNARY

// Bit i: element i of a is not that of b, or is not a number.
template <class V, int N>
PYMICROGPT_INLINE unsigned unequal(const Floats<V, N>& a, const Floats<V, N>& b) {
  unsigned bits = 0;
  EACH bits |= unequal(a.v[u], b.v[u]) << (u * V::lanes);
  return bits;
}
#undef EACH
#define EACH PYMICROGPT_UNROLL for (int u = 0; u < kVectors; ++u)

PYMICROGPT_INLINE Vec16 flush_below(float least, const Vec16& a) {
  Vec16 r;
  EACH r.v[u] = flush_below(least, a.v[u]);
  return r;
}

// Element i of each quad, in all four of the quad.
template <int i>
PYMICROGPT_INLINE Vec16 quad(const Vec16& a) {
  Vec16 r;
  EACH r.v[u] = quad<i>(a.v[u]);
  return r;
}

// f(i, element i of each argument, everywhere) for i = 0 .. 3.
template <class F, class... Each>
PYMICROGPT_INLINE void for4(F f, const Each&... each) {
  f(0, quad<0>(each)...);
  f(1, quad<1>(each)...);
  f(2, quad<2>(each)...);
  f(3, quad<3>(each)...);
}

// Element i of each quad is the sum over that quad of the i-th argument.
PYMICROGPT_INLINE Vec16 reduce4(const Vec16& a, const Vec16& b, const Vec16& c, const Vec16& d) {
  Vec16 r;
  EACH r.v[u] = reduce4(a.v[u], b.v[u], c.v[u], d.v[u]);
  return r;
}

// The sum of the four quads, in every quad.
PYMICROGPT_INLINE Vec16 across_quads(const Vec16& a) {
  Vec sum = a.v[0];
  for (int u = 1; u < kVectors; ++u) sum = sum + a.v[u];
  sum = across_quads(sum);
  Vec16 r;
  EACH r.v[u] = sum;
  return r;
}

// Element i of each quad is the maximum of that quad of the i-th argument.
PYMICROGPT_INLINE Vec16 max4(const Vec16& a, const Vec16& b, const Vec16& c, const Vec16& d) {
  Vec16 r;
  EACH r.v[u] = max4(a.v[u], b.v[u], c.v[u], d.v[u]);
  return r;
}

PYMICROGPT_INLINE Vec16 max_across_quads(const Vec16& a) {
  Vec most = a.v[0];
  for (int u = 1; u < kVectors; ++u) most = max(most, a.v[u]);
  most = max_across_quads(most);
  Vec16 r;
  EACH r.v[u] = most;
  return r;
}
#undef EACH

}  // namespace
}  // namespace microgpt
