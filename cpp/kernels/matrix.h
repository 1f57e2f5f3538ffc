// The two matrix kernels: product, for forward and input gradients, and weight_gradient, whose
// epilogue is Adam, so that gradients never reach memory.
#pragma once
#include "row.h"

namespace microgpt {
namespace {

// A weight matrix (outs, ins), kept twice: forward wants outs in the lanes, input gradients ins.
// `p`, the copy that Adam updates, has the longer side in its lanes, `q` the other one. Each copy
// is (panels of the lane side, the other side padded to panels, 16). Padding is zero and stays so.
struct Matrix {
  int outs, ins;
  bool outs_in_lanes;  // of p
  float *p, *q;        // parameter, and its transpose
  float *m, *v;        // Adam moments, divided by 1 - beta1 and 1 - beta2
  float *g;            // gradient, where it is asked for
  // m, v and g are laid out as p

  PYMICROGPT_INLINE int lane_panels() const { return panels_of(outs_in_lanes ? outs : ins); }
  PYMICROGPT_INLINE int rows() const { return outs_in_lanes ? ins : outs; }
  PYMICROGPT_INLINE int64_t size() const {
    return int64_t{kPanel} * kPanel * panels_of(outs) * panels_of(ins);
  }
  PYMICROGPT_INLINE static int64_t index(int lane, int row, int rows) {
    return (int64_t{lane / kPanel} * panels_of(rows) * kPanel + row) * kPanel + lane % kPanel;
  }
  // Where element (out, in) is, in p, m, v and g, and in q.
  PYMICROGPT_INLINE int64_t at(int out, int in) const {
    return outs_in_lanes ? index(out, in, ins) : index(in, out, outs);
  }
  PYMICROGPT_INLINE int64_t transposed_at(int out, int in) const {
    return outs_in_lanes ? index(in, out, outs) : index(out, in, ins);
  }
  PYMICROGPT_INLINE const float* by_outs() const { return outs_in_lanes ? p : q; }
  PYMICROGPT_INLINE const float* by_ins() const { return outs_in_lanes ? q : p; }
};

// Adam with the constants of one step folded together (docs/derivations.md).
struct Adam {
  V beta1, beta2;
  V rate;   // lr_t (1 - beta1) / (1 - beta1^(t+1))
  V scale;  // sqrt((1 - beta2) / (1 - beta2^(t+1)))
  V eps;

  PYMICROGPT_INLINE explicit Adam(const AdamStep& s)
      : beta1(V::set(static_cast<float>(s.beta1))),
        beta2(V::set(static_cast<float>(s.beta2))),
        rate(V::set(static_cast<float>(s.rate * (1.0 - s.beta1) / s.correction1))),
        scale(V::set(static_cast<float>(__builtin_sqrt((1.0 - s.beta2) / s.correction2)))),
        eps(V::set(static_cast<float>(s.eps))) {}

  // The new parameter; the moments are updated where they are.
  PYMICROGPT_INLINE V update(V p, V g, float* m, float* v) const {
    const V m1 = fma(beta1, V::load(m), g);
    const V v1 = fma(beta2, V::load(v), g * g);
    m1.store(m);
    v1.store(v);
    return p - rate * m1 * reciprocal(fma(scale, sqrt(v1), eps));
  }
};

// ---- product: y[n][o] = sum over k of x[n][k] w[k][o] ----

enum class After { store, relu, residual, mask };

struct Product {
  Panels x;        // (k, rows)
  int k;
  const float* w;  // (panels of y, k padded to panels, 16)
  Panels y;        // (panels * 16, rows)
  int panels;
  Span rows;
  Panels other = {};             // residual: y = product + other[map[n]]
  const int32_t* map = nullptr;  // mask: y = other[n] > 0 ? product : 0
};

// R rows by P panels, all in registers.
template <After after, int R, int P>
PYMICROGPT_INLINE void product_tile(const Product& a, int row, int panel) {
  constexpr int U = P * kVectors;
  const V zero = V::set(0.0f);
  V sum[R][U];
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) sum[r][u] = zero;

  const int64_t stride = int64_t{panels_of(a.k)} * kPanel * kPanel;  // of a panel of w
  const float* w = a.w + panel * stride;
  const float* x = a.x.data + int64_t{row} * kPanel;
  for (int k0 = 0; k0 < a.k; k0 += kPanel, x += a.x.stride) {
    const float* end = x + (a.k - k0 < kPanel ? a.k - k0 : kPanel);
    for (const float* xk = x; xk != end; ++xk, w += kPanel) {
      V weight[U];
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
        weight[u] = V::load(w + (u / kVectors) * stride + u % kVectors * V::lanes);
      PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) {
        const V value = V::set(xk[r * kPanel]);
        PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
          sum[r][u] = fma(value, weight[u], sum[r][u]);
      }
    }
  }

  float* y = a.y.at(panel, int64_t{row} * kPanel);
  const float* other = nullptr;
  if constexpr (after == After::mask) other = a.other.at(panel, int64_t{row} * kPanel);
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) {
    if constexpr (after == After::residual) other = a.other.at(panel, a.map[row + r]);
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
      const int64_t p = u / kVectors, lane = u % kVectors * V::lanes;
      V v = sum[r][u];
      if constexpr (after == After::relu) v = max(zero, v);  // in this order NaN stays NaN
      if constexpr (after == After::residual) v = v + V::load(other + p * a.other.stride + lane);
      if constexpr (after == After::mask)
        v = where_greater(V::load(other + p * a.other.stride + r * kPanel + lane), zero, v);
      v.store(y + p * a.y.stride + r * kPanel + lane);
    }
  }
}

template <After after, int R, int P>
void product_rows(const Product& a, int rows, int row, int panel) {
  if constexpr (R > 1) {
    if (rows < R) return product_rows<after, R - 1, P>(a, rows, row, panel);
  }
  product_tile<after, R, P>(a, row, panel);
}

// `total` split into as few parts of at most `most` as can be, as even as can be: f(first, size).
template <class F>
PYMICROGPT_INLINE void split_evenly(int total, int most, F f) {
  const int parts = (total + most - 1) / most;
  for (int i = 0, first = 0; i < parts; ++i) {
    const int size = total / parts + (i < total % parts);
    f(first, size);
    first += size;
  }
}

template <After after, int P>
void product_panels(const Product& a, int panels, int panel) {
  if constexpr (P > 1) {
    if (panels < P) return product_panels<after, P - 1>(a, panels, panel);
  }
  constexpr int fit = V::accumulators / (P * kVectors);
  constexpr int most = fit < 16 ? fit : 16;
  split_evenly(a.rows.last - a.rows.first, most, [&](int row, int rows) {
    product_rows<after, most, P>(a, rows, a.rows.first + row, panel);
  });
}

template <After after = After::store>
void product(const Product& a) {
  split_evenly(a.panels, V::tile_panels, [&](int panel, int panels) {
    product_panels<after, V::tile_panels>(a, panels, panel);
  });
}

// ---- weight gradient: dw[o][i] = sum over n of dy[n][o] x[n][i] ----

struct WeightGradient {
  Panels lane;  // dy or x: what the lanes of p hold
  Panels row;   // the other one
  int rows;     // n
};

constexpr int power_of_two_below(int n) { return n < 2 ? 1 : 2 * power_of_two_below(n / 2); }

// R rows of p by P panels. With `adam`, updates p, m, v and q; without, stores g.
template <int R, int P>
PYMICROGPT_INLINE void weight_tile(const WeightGradient& a, const Matrix& w, const Adam* adam,
                                   int row, int panel) {
  constexpr int U = P * kVectors;
  V sum[R][U];
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) sum[r][u] = V::set(0.0f);

  const float* lane = a.lane.at(panel, 0);
  const float* other = a.row.at(row / kPanel, row % kPanel);
  for (int n = 0; n < a.rows; ++n, lane += kPanel, other += kPanel) {
    V value[U];
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
      value[u] = V::load(lane + (u / kVectors) * a.lane.stride + u % kVectors * V::lanes);
    PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) {
      const V weight = V::set(other[r]);
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) sum[r][u] = fma(weight, value[u], sum[r][u]);
    }
  }

  const int64_t rows = int64_t{panels_of(w.rows())} * kPanel;
  const int64_t lanes = int64_t{w.lane_panels()} * kPanel;
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
    const int64_t p = panel + u / kVectors, first = u % kVectors * V::lanes;
    const int64_t at = (p * rows + row) * kPanel + first;
    if (adam == nullptr) {
      PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) sum[r][u].store(w.g + at + r * kPanel);
      continue;
    }
    float* q = w.q + ((row / kPanel) * lanes + p * kPanel + first) * kPanel + row % kPanel;
    PYMICROGPT_UNROLL for (int r = 0; r < R; r += 4) {
      V updated[4];
      PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
        const int64_t j = at + (r + i) * kPanel;
        updated[i] = adam->update(V::load(w.p + j), sum[r + i][u], w.m + j, w.v + j);
        updated[i].store(w.p + j);
      }
      store_transposed(q + r, updated[0], updated[1], updated[2], updated[3]);
    }
  }
}

template <int P>
void weight_panels(const WeightGradient& a, const Matrix& w, const Adam* adam, Share& share,
                   int panels, int panel) {
  if constexpr (P > 1) {
    if (panels < P) return weight_panels<P - 1>(a, w, adam, share, panels, panel);
  }
  constexpr int fit = power_of_two_below(V::accumulators / (P * kVectors));
  constexpr int R = fit < 16 ? fit : 16;
  static_assert(R % 4 == 0, "transposed stores take four rows");
  for (int block = 0; block < w.rows(); block += kPanel) {
    if (!share.mine()) continue;
    const int end = w.rows() < block + kPanel ? w.rows() : block + kPanel;
    for (int row = block; row < end; row += R) weight_tile<R, P>(a, w, adam, row, panel);
  }
}

// From x (ins, rows) and dy (outs, rows); this thread's share of the blocks of w.
void weight_gradient(Panels dy, Panels x, int rows, const Matrix& w, const Adam* adam,
                     Share& share) {
  const WeightGradient a = w.outs_in_lanes ? WeightGradient{dy, x, rows}
                                           : WeightGradient{x, dy, rows};
  // With few rows Adam's traffic decides: tiles of whole 16 x 16 blocks walk memory in order.
  const int most = rows > 2 * kPanel ? V::tile_panels : 1;
  split_evenly(w.lane_panels(), most, [&](int panel, int panels) {
    weight_panels<V::tile_panels>(a, w, adam, share, panels, panel);
  });
}

}  // namespace
}  // namespace microgpt
