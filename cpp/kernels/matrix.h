// The two matrix kernels: product, for forward and input gradients, and weight_gradient, whose
// epilogue is Adam, so that gradients never reach memory.
#pragma once
#include "vec16.h"

namespace microgpt {
namespace {

// Floats from one row of so many features to the next, where rows stand one after the other: an odd
// number of lines when there are many, or all rows would begin in a few sets of the cache.
PYMICROGPT_INLINE int64_t strip_of(int features) {
  const int panels = panels_of(features);
  return int64_t{panels < 16 ? panels : panels | 1} * kPanel;
}

// A weight matrix (outs, ins). `p`, the copy that Adam updates, has one side in its lanes, `q`,
// where there is one, the other side: forward wants outs in the lanes, input gradients ins. A copy
// is (panels of the lane side, the other side padded to panels, 16) or, by row, (the other side
// padded, strip_of(lane side)). Padding is zero and stays so.
struct Matrix {
  int outs, ins;
  bool outs_in_lanes;  // of p
  bool by_row;         // p is
  float *p, *q;        // parameter, and its transpose or null
  float *m, *v;        // Adam moments, divided by 1 - beta1 and 1 - beta2
  float* g;            // gradient, where it is asked for
  // m, v and g are laid out as p

  PYMICROGPT_INLINE int lanes() const { return outs_in_lanes ? outs : ins; }
  PYMICROGPT_INLINE int rows() const { return outs_in_lanes ? ins : outs; }
  PYMICROGPT_INLINE int64_t strip() const { return strip_of(lanes()); }
  PYMICROGPT_INLINE int64_t size() const {
    return panels_of(rows()) * kPanel * (by_row ? strip() : int64_t{panels_of(lanes())} * kPanel);
  }
  PYMICROGPT_INLINE int64_t stride() const { return int64_t{panels_of(rows())} * kPanel * kPanel; }
  PYMICROGPT_INLINE static int64_t index(int lane, int row, int rows) {
    return (int64_t{lane / kPanel} * panels_of(rows) * kPanel + row) * kPanel + lane % kPanel;
  }
  // Where element (out, in) is, in p, m, v and g, and in q.
  PYMICROGPT_INLINE int64_t at(int out, int in) const {
    const int lane = outs_in_lanes ? out : in, row = outs_in_lanes ? in : out;
    return by_row ? row * strip() + lane : index(lane, row, rows());
  }
  PYMICROGPT_INLINE int64_t transposed_at(int out, int in) const {
    return outs_in_lanes ? index(in, out, outs) : index(out, in, ins);
  }
  // The copies, for products, and gradients.
  PYMICROGPT_INLINE Panels of_p() const { return {p, stride()}; }
  PYMICROGPT_INLINE Panels of_q() const {
    return {q, int64_t{panels_of(lanes())} * kPanel * kPanel};
  }
  PYMICROGPT_INLINE Panels of_g() const { return {g, stride()}; }
};

// Adam with the constants of one step folded together, the rate into those below it
// (docs/derivations.md). Those are negative, so that the last operation is a multiply-add.
struct Adam {
  Vec beta1, beta2;
  Vec scale;  // -sqrt((1 - beta2) / (1 - beta2^(t+1))) / rate
  Vec eps;    // -eps / rate

  PYMICROGPT_INLINE explicit Adam(const AdamStep& s)
      : beta1(Vec::set(static_cast<float>(s.beta1))), beta2(Vec::set(static_cast<float>(s.beta2))) {
    const double rate = s.rate * (1.0 - s.beta1) / s.correction1;
    const double root = __builtin_sqrt((1.0 - s.beta2) / s.correction2);
    scale = Vec::set(static_cast<float>(-bounded(root / rate, 1e18)));
    eps = Vec::set(static_cast<float>(-bounded(s.eps / rate, 1e38)));
  }

  // The new parameter; the moments are updated where they are. `other` root: half of all weights,
  // always the same ones, take it, so that roots do not all wait for one unit.
  PYMICROGPT_INLINE Vec update(Vec p, Vec g, float* m, float* v, bool other) const {
    Vec m1 = Vec::load(m), v1 = Vec::load(v);
    const Vec after = update(p, g, m1, v1, other);
    m1.store(m);
    v1.store(v);
    return after;
  }
  PYMICROGPT_INLINE Vec update(Vec p, Vec g, Vec& m, Vec& v, bool other) const {
    const Vec root = flush_below(kLeastRoot, g);
    m = flush_below(kLeast, fma(beta1, m, g));
    v = flush_below(kLeastSquare, fma(beta2, v, root * root));
    const Vec v_root = other ? other_sqrt(v) : sqrt(v);
    return fma(m, reciprocal(fma(scale, v_root, eps)), p);
  }

 private:
  // So that the sum below the moment is neither infinite nor zero: no rate below 1e-18 moves a
  // weight above 1e-10, and of one that would make these denormal all weights are infinite.
  static double bounded(double x, double most) { return x < 1e-37 ? 1e-37 : x < most ? x : most; }
};

// The steps of Adam that are behind us, as far as some weights have still to take them.
struct Recent {
  static constexpr uint64_t kept = 8;
  Adam* steps;     // (kept)
  uint64_t count;  // of all

  PYMICROGPT_INLINE void add(const Adam& adam) { steps[count++ % kept] = adam; }
  PYMICROGPT_INLINE const Adam& back(int i) const {  // the last: 1
    return steps[(count - static_cast<uint64_t>(i)) % kept];
  }
  // Once in `kept` steps.
  PYMICROGPT_INLINE bool is_turn_of(int unit) const {
    return (count + static_cast<uint64_t>(unit)) % kept == 0;
  }
};

// Whether the update of a weight without gradient is smaller in the step `now` than it was in the
// step before: rate m / (scale sqrt(v) + eps), where m and sqrt(v) fall by beta1 and sqrt(beta2). A
// hundredth is left for rounding, and eps keeps what becomes denormal from mattering.
PYMICROGPT_INLINE bool calm(const AdamStep& before, const AdamStep& now) {
  const double rate = now.rate / now.correction1 / (before.rate / before.correction1);
  const double scale = __builtin_sqrt(before.correction2 / now.correction2);
  const double least =
      scale * __builtin_sqrt(now.beta2) < 1.0 ? scale * __builtin_sqrt(now.beta2) : 1.0;
  return now.beta1 * rate <= 0.99 * least && now.eps >= 1e-12;
}

// ---- product: y[n][o] = sum over k of x[n][k] w[k][o] ----

// Rows that stand one after the other (rows, stride): operands as Panels are.
struct Strips {
  float* data;
  int64_t stride;

  PYMICROGPT_INLINE float* at(int p, int64_t row) const { return data + row * stride + p * kPanel; }
  PYMICROGPT_INLINE Tile tile(int64_t row, int p) const { return {at(p, row), stride, kPanel}; }
  PYMICROGPT_INLINE int64_t row_step() const { return stride; }
  PYMICROGPT_INLINE static constexpr int64_t panel_step() { return kPanel; }
  static constexpr bool fetched = true;  // rows are weights: of wide models, from the third cache
  static constexpr bool paired = false;  // outputs may be rows: how many must not change their sums
};

// What becomes of sixteen sums: of row n, for the outputs of panel p, which belong at `to`. Sums
// over a part of k are kept there until the next part; tile(n, p) begins with them.
struct Output {
  static constexpr bool as_is = false;  // whether the sums are what is kept
  Panels y;
  PYMICROGPT_INLINE Tile tile(int n, int p) const { return y.tile(n, p); }
};
struct Store : Output {
  static constexpr bool as_is = true;
  PYMICROGPT_INLINE explicit Store(Panels to) : Output{to} {}
  PYMICROGPT_INLINE void operator()(int, int, float* to, const Vec16& sum) const { sum.store(to); }
};
struct Relu : Output {
  PYMICROGPT_INLINE explicit Relu(Panels to) : Output{to} {}
  PYMICROGPT_INLINE void operator()(int, int, float* to, const Vec16& sum) const {
    max(Vec16::set(0.0f), sum).store(to);  // in this order NaN stays NaN
  }
};
struct Residual : Output {  // y = product + other[map[n]]
  Panels other;
  const int32_t* map;
  PYMICROGPT_INLINE Residual(Panels to, Panels x, const int32_t* rows)
      : Output{to}, other(x), map(rows) {}
  PYMICROGPT_INLINE void operator()(int n, int p, float* to, const Vec16& sum) const {
    (sum + Vec16::load(other.at(p, map[n]))).store(to);
  }
};
struct Mask : Output {  // y = other[n] > 0 ? product : 0
  Panels other;
  PYMICROGPT_INLINE Mask(Panels to, Panels gate) : Output{to}, other(gate) {}
  PYMICROGPT_INLINE void operator()(int n, int p, float* to, const Vec16& sum) const {
    const Vec16 gate = Vec16::load(other.at(p, int64_t{n} * kPanel));
    where_greater(gate, Vec16::set(0.0f), sum).store(to);
  }
};

// A product of x (k, rows) and w (panels of outputs, k, 16).
template <class X, class Then>
struct Product {
  X x;
  int k;
  Panels w;
  Then then;
};

// The sums of panel p, of a row of a tile.
template <int U>
PYMICROGPT_INLINE Vec16 sixteen_of(const Vec (&sum)[U], int p) {
  Vec16 row;
  PYMICROGPT_UNROLL for (int u = 0; u < kVectors; ++u) row.v[u] = sum[p * kVectors + u];
  return row;
}

// The sums of R rows by U vectors that earlier parts of k have left, or, of the first part, zeros.
template <int R, int U>
PYMICROGPT_INLINE void begin_sums(Vec (&sum)[R][U], const Tile& kept, bool first) {
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) sum[r][u] = Vec::set(0.0f);
  if (Vec::compact || first) return;
  const Tile tile = kept.anew();
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
      sum[r][u] = Vec::load(tile.at(r, u / kVectors) + u % kVectors * Vec::lanes);
}
template <int R, int U>
PYMICROGPT_INLINE void keep_sums(const Vec (&sum)[R][U], const Tile& to) {
  const Tile tile = to.anew();
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
      sum[r][u].store(tile.at(r, u / kVectors) + u % kVectors * Vec::lanes);
}
// And what becomes of them after this part.
template <int R, int U, class Then>
PYMICROGPT_INLINE void end_sums(const Vec (&sum)[R][U], const Tile& to, const Then& shared,
                                int row, int panel, bool last) {
  if (!Vec::compact && !last) return keep_sums(sum, to);
  const Tile tile = to.anew();
  const Then then = shared;  // a copy, which no store can alias
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
    PYMICROGPT_UNROLL for (int p = 0; p < U / kVectors; ++p)
      then(row + r, panel + p, tile.at(r, p), sixteen_of(sum[r], p));
}

// What becomes of the sums of one row.
template <class Then, class Row>
PYMICROGPT_INLINE void end_sum(const Then& then, int n, int p, const Row& sum) {
  then(n, p, then.tile(n, p).first, sum);
}
// Of all rows and panels, where they are kept already.
template <class Then>
[[maybe_unused]] void finish(int panels, Span rows, const Then& shared) {
  const Then then = shared;  // a copy, which no store can alias
  for (int p = 0; p < panels && !Then::as_is; ++p)
    for (int n = rows.first; n < rows.last; ++n)
      end_sum(then, n, p, Vec16::load(then.tile(n, p).first));
}

// R rows by P panels, all in registers; a part of k, which begins with a panel.
template <int R, int P, class X, class Then>
PYMICROGPT_INLINE void product_tile(const Product<X, Then>& args, Span part, int row, int panel) {
  constexpr int U = P * kVectors;
  const Tile tile = args.then.tile(row, panel);
  Vec sum[R][U];
  begin_sums(sum, tile, part.first == 0);
  const int64_t step = args.x.row_step();
  const float* x = args.x.data + row * step + part.first / kPanel * args.x.panel_step();
  const float* w = args.w.at(panel, int64_t{part.first} * kPanel);
  for (int left = part.last - part.first; left > 0; left -= kPanel, x += args.x.panel_step()) {
    const float* end = x + (left < kPanel ? left : kPanel);
    if (!Vec::compact && X::fetched && args.k >= 8 * kPanel)  // for the next tile
      PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) __builtin_prefetch(x + (R + r) * step);
    for (const float* xk = x; xk != end; ++xk, w += kPanel) {
      Vec weight[U];
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
        weight[u] = Vec::load(w + (u / kVectors) * args.w.stride + u % kVectors * Vec::lanes);
      PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) {
        const Vec value = Vec::set(xk[r * step]);
        PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
          sum[r][u] = fma(value, weight[u], sum[r][u]);
      }
    }
  }
  end_sums(sum, tile, args.then, row, panel, part.last == args.k);
}

// R rows by one panel that fills one vector. A tile as above would load a value for every
// multiply-add, which two load ports do not keep up with. Here one load of two values serves two:
// the weights of k and k + 1 are interleaved, so that lanes hold the sums over even and over odd k.
template <int R, class X, class Then>
PYMICROGPT_INLINE void paired_tile(const Product<X, Then>& args, int row) {
  Vec sum[R][2];
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = Vec::set(0.0f);
  const int64_t step = args.x.row_step();
  const float* x = args.x.data + row * step;
  const float* w = args.w.at(0, 0);
  for (int k0 = 0; k0 < args.k; k0 += kPanel, x += args.x.panel_step()) {
    const float* end = x + (args.k - k0 < kPanel ? (args.k - k0 + 1) / 2 * 2 : kPanel);
    for (const float* xk = x; xk != end; xk += 2, w += 2 * kPanel) {
      const Vec even = Vec::load(w), odd = Vec::load(w + kPanel);
      const Vec low = interleave_low(even, odd), high = interleave_high(even, odd);
      PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) {
        const Vec values = Vec::load_pair(xk + r * step);
        sum[r][0] = fma(values, low, sum[r][0]);
        sum[r][1] = fma(values, high, sum[r][1]);
      }
    }
  }
  const Then then = args.then;
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
    end_sum(then, row + r, 0, Vec16{pair_sums(sum[r][0], sum[r][1])});
}

// `total` split into as few parts of at most `most` as can be, as even as can be: at most two runs
// of parts of one size each, f(first, size, count).
template <class F>
PYMICROGPT_INLINE void runs_evenly(int total, int most, F f) {
  const int parts = (total + most - 1) / most;
  if (parts == 0) return;
  const int size = parts == 1 ? total : total / parts, larger = total - size * parts;
  if (larger > 0) f(0, size + 1, larger);
  f(larger * (size + 1), size, parts - larger);
}
// Part by part: f(first, size).
template <class F>
PYMICROGPT_INLINE void split_evenly(int total, int most, F f) {
  runs_evenly(total, most, [&](int first, int size, int count) {
    for (int i = 0; i < count; ++i) f(first + i * size, size);
  });
}

// ---- blocks: what does not fit the caches ----
// A sum of many terms over many rows is done a part at a time, so that the weights of a part stay
// in the first cache and the activations in the second. The order of a sum is the same. Compact
// code has no parts.

constexpr int kPart = 128;         // terms of a part
constexpr int kRowsOfBlock = 768;  // rows that take turns with the weights of a part

// f(part of the k terms, part of the rows, both but for the last in whole sixteens)
template <class F>
PYMICROGPT_INLINE void each_block(int k, Span rows, F f) {
  const bool few = rows.last - rows.first <= 2 * kPanel;
  if (Vec::compact || ((few || k <= kPart) && rows.last - rows.first <= kRowsOfBlock))
    return f(Span{0, k}, rows);
  const int most = few ? panels_of(k) : kPart / kPanel;
  const auto part = [](Span all, int first, int panels) {
    const int end = all.first + (first + panels) * kPanel;
    return Span{all.first + first * kPanel, end < all.last ? end : all.last};
  };
  split_evenly(panels_of(rows.last - rows.first), kRowsOfBlock / kPanel, [&](int row, int some) {
    split_evenly(panels_of(k), most, [&](int first, int panels) {
      f(part({0, k}, first, panels), part(rows, row, some));
    });
  });
}

// `count` tiles one below the other. A function of its own: the loops of a tile want all registers.
template <int R, int P, class X, class Then>
PYMICROGPT_NOINLINE void product_tiles(const Product<X, Then>& args, Span part, int row, int count,
                                       int panel) {
  for (int i = 0; i < count; ++i) product_tile<R, P>(args, part, row + i * R, panel);
}

template <int P, class X, class Then>
void product_panels(const Product<X, Then>& args, Span part, Span rows, int panel) {
  constexpr int fit = Vec::accumulators / (P * kVectors);
  constexpr int most = fit < 16 ? fit : 16;
  runs_evenly(rows.last - rows.first, most, [&](int row, int size, int count) {
    with_up_to<most>(size, [&](auto R) {
      product_tiles<R.value, P>(args, part, rows.first + row, count, panel);
    });
  });
}

template <class X, class Then>
void product(const X& x, int k, Panels w, int panels, Span rows, const Then& then) {
  const Product<X, Then> args{x, k, w, then};
  if constexpr (kVectors == 1 && X::paired) {
    if (panels == 1) {
      constexpr int most = Vec::accumulators / 2;
      split_evenly(rows.last - rows.first, most, [&](int row, int some) {
        with_up_to<most>(some, [&](auto R) { paired_tile<R.value>(args, rows.first + row); });
      });
      return;
    }
  }
  each_block(k, rows, [&](Span part, Span some_rows) {
    split_evenly(panels, Vec::tile_panels, [&](int panel, int some) {
      with_up_to<Vec::tile_panels>(some, [&](auto P) {
        product_panels<P.value>(args, part, some_rows, panel);
      });
    });
  });
}

// A product of a phase: by the matrix unit, where there is one, with `then` in a second pass.
template <class X, class Then>
void whole_product(const X& x, int k, Panels w, int panels, Span rows, const Then& then) {
  if constexpr (Unit::there) {
    const Tile y = then.tile(rows.first, 0);
    Unit::sum({rows.last - rows.first, panels, k,
               x.data + rows.first * x.row_step(), x.row_step(), x.panel_step(), true,
               w.data, kPanel, w.stride,
               y.first, y.row_step, y.panel_step});
    finish(panels, rows, then);
  } else {
    product(x, k, w, panels, rows, then);
  }
}

// bt (row panels, features, 16 rows) = b transposed, for whole panels of rows.
void transpose_rows(Panels bt, Panels b, int panels, int first, int last) {
  for (int n = first * kPanel; n < last * kPanel; n += 4)
    for (int p = 0; p < panels; ++p)
      PYMICROGPT_UNROLL for (int u = 0; u < kVectors; ++u) {
        const float* from = b.at(p, int64_t{n} * kPanel) + u * Vec::lanes;
        store_transposed(bt.at(n / kPanel, (p * kPanel + u * Vec::lanes) * kPanel) + n % kPanel,
                         Vec::load(from), Vec::load(from + kPanel), Vec::load(from + 2 * kPanel),
                         Vec::load(from + 3 * kPanel));
      }
}

// ---- the same by dot products, with the weights the other way: w (panels of k, outputs, 16) ----

template <class Then>
struct DotProduct {
  Panels x;  // (k, rows)
  int k;
  Panels w;
  int panels;
  Span rows;
  Then then;
};

// R rows by sixteen outputs, four of them at a time.
template <int R, class Then>
PYMICROGPT_INLINE void dot_tile(const DotProduct<Then>& args, int row, int panel) {
  Vec dot[R][4];
  const int lane_panels = panels_of(args.k);
  PYMICROGPT_UNROLL for (int four = 0; four < 4; ++four) {
    Vec sum[R][4];
    PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
      PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) sum[r][i] = Vec::set(0.0f);
    for (int p = 0; p < lane_panels; ++p) {
      const float* x = args.x.at(p, int64_t{row} * kPanel);
      const float* w = args.w.at(p, (int64_t{panel} * kPanel + four * 4) * kPanel);
      PYMICROGPT_UNROLL for (int u = 0; u < kVectors; ++u) {
        Vec weight[4];
        PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i)
          weight[i] = Vec::load(w + i * kPanel + u * Vec::lanes);
        PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) {
          const Vec value = Vec::load(x + r * kPanel + u * Vec::lanes);
          PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i)
            sum[r][i] = fma(value, weight[i], sum[r][i]);
        }
      }
    }
    PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
      dot[r][four] = reduce4(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
  }
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) {
    Vec16 y;
    PYMICROGPT_UNROLL for (int u = 0; u < kVectors; ++u)
      y.v[u] = sum_quads(dot[r] + u * (Vec::lanes / 4));
    end_sum(args.then, row + r, panel, y);
  }
}

template <class Then>
void dot_product(Panels x, int k, Panels w, int panels, Span rows, const Then& then) {
  constexpr int most = Vec::accumulators / 4;
  const DotProduct<Then> args{x, k, w, panels, rows, then};
  for (int panel = 0; panel < panels; ++panel)
    split_evenly(rows.last - rows.first, most, [&](int row, int some) {
      with_up_to<most>(some, [&](auto R) { dot_tile<R.value>(args, rows.first + row, panel); });
    });
}

// y = x w^T: w is (outs, ins).
template <class Then>
void forward(const Matrix& w, Panels x, Span rows, const Then& then) {
  if (Vec::compact || w.outs_in_lanes || w.q != nullptr)
    whole_product(x, w.ins, w.outs_in_lanes ? w.of_p() : w.of_q(), panels_of(w.outs), rows, then);
  else
    dot_product(x, w.ins, w.of_p(), panels_of(w.outs), rows, then);
}

// dx = dy w
template <class Then>
void input_gradient(const Matrix& w, Panels dy, Span rows, const Then& then) {
  if (Vec::compact || !w.outs_in_lanes || w.q != nullptr)
    whole_product(dy, w.outs, w.outs_in_lanes ? w.of_q() : w.of_p(), panels_of(w.ins), rows, then);
  else
    dot_product(dy, w.outs, w.of_p(), panels_of(w.ins), rows, then);
}

// ---- outer products: sum[r][u] += sum over n of other[n][row + r] lane[n][u] ----

constexpr int power_of_two_below(int n) { return n < 2 ? 1 : 2 * power_of_two_below(n / 2); }

// U vectors of `lane`, from vector `first` of its panel on, by the features row .. row + R - 1 of
// `other`.
template <int R, int U, class Lane>
PYMICROGPT_INLINE void outer_products(Vec (&sum)[R][U], const Lane& lane, int panel, Panels other,
                                      int row, Span part, int first = 0) {
  const float* in_lanes = lane.at(panel, 0) + part.first * lane.row_step() + first * Vec::lanes;
  const float* factor = other.at(row / kPanel, row % kPanel + int64_t{part.first} * kPanel);
  for (int n = part.first; n < part.last; ++n, in_lanes += lane.row_step(), factor += kPanel) {
    Vec value[U];
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
      value[u] =
          Vec::load(in_lanes + (u / kVectors) * lane.panel_step() + u % kVectors * Vec::lanes);
    PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) {
      const Vec by = Vec::set(factor[r]);
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) sum[r][u] = fma(by, value[u], sum[r][u]);
    }
  }
}

// ---- weight gradient: dw[o][i] = sum over n of dy[n][o] x[n][i] ----

struct WeightGradient {
  Panels lane;  // dy or x: what the lanes of p hold
  Panels row;   // the other one
  int rows;     // n
};

constexpr int kStrip = 6 * kPanel;  // rows of p that take turns with a part of n

// What becomes of the sums of R rows of p by U vectors, from vector `from` of a panel on. With
// `adam`, updates p, m, v and q; without, stores g.
template <int R, int U>
PYMICROGPT_INLINE void take_sums(const Vec (&sum)[R][U], const Matrix& w, const Adam* adam, int row,
                                 int panel, int from) {
  const int64_t rows = int64_t{panels_of(w.rows())} * kPanel;
  const int64_t lanes = int64_t{panels_of(w.lanes())} * kPanel;
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
    const int64_t p = panel + u / kVectors, first = (from + u % kVectors) * Vec::lanes;
    const int64_t at = (p * rows + row) * kPanel + first;
    if (adam == nullptr) {
      PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) sum[r][u].store(w.g + at + r * kPanel);
      continue;
    }
    const int64_t transposed =
        ((row / kPanel) * lanes + p * kPanel + first) * kPanel + row % kPanel;
    PYMICROGPT_UNROLL for (int r = 0; r < R; r += 4) {
      Vec updated[4];
      PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
        const int64_t j = at + (r + i) * kPanel;
        updated[i] =
            adam->update(Vec::load(w.p + j), sum[r + i][u], w.m + j, w.v + j, i % 2 == 1);
        updated[i].store(w.p + j);
      }
      if (w.q != nullptr)
        store_transposed(w.q + transposed + r, updated[0], updated[1], updated[2], updated[3]);
    }
  }
}

// R rows of p by P panels; where the sums of all are too many, some vectors of a panel at a time.
// All of n, or, with Parts, a part: the sums over those before are kept.
template <int R, int P, bool Parts>
PYMICROGPT_INLINE void weight_tile(const WeightGradient& args, const Matrix& w, const Adam* adam,
                                   Span part, const Tile& kept, int row, int panel) {
  constexpr int all = P * kVectors, fit = Vec::accumulators / R;
  constexpr int U = Parts || all <= fit ? all : fit;
  for (int first = 0; first < all; first += U) {
    Vec sum[R][U];
    begin_sums(sum, kept, !Parts || part.first == 0);
    outer_products(sum, args.lane, panel, args.row, row, part, first);
    if constexpr (Parts)
      if (part.last < args.rows) return keep_sums(sum, kept);
    take_sums(sum, w, adam, row, panel, first);
  }
}

template <int P>
void weight_panels(const WeightGradient& args, const Matrix& matrix, const Adam* adam, Share& share,
                   int panel) {
  // A copy, which no store can alias. One of Adam's constants would take the registers of the sums.
  const Matrix w = matrix;
  constexpr int fit = power_of_two_below(Vec::accumulators / (P * kVectors));
  constexpr int R = fit < 4 ? 4 : fit < 16 ? fit : 16;  // transposed stores take four rows
  const int last = w.rows();
  if constexpr (Unit::there) {
    const Span mine = share.of(last), done{args.rows, args.rows};
    for (int row = mine.first; row < mine.last; row += R)
      weight_tile<R, P, true>(args, w, adam, done, w.of_g().tile(row, panel), row, panel);
    return;
  }
  const auto end_of = [last](int row, int rows) { return last < row + rows ? last : row + rows; };
  if (Vec::compact || args.rows <= kPart) {
    for (int block = 0; block < last; block += kPanel) {
      if (!share.mine()) continue;
      for (int row = block; row < end_of(block, kPanel); row += R)
        weight_tile<R, P, false>(args, w, adam, {0, args.rows}, Tile{}, row, panel);
    }
    return;
  }
  alignas(64) float sums[kStrip * Vec::tile_panels * kPanel];
  const Strips kept{sums, Vec::tile_panels * kPanel};
  for (int strip = 0; strip < last; strip += kStrip) {
    if (!share.mine()) continue;
    each_block(args.rows, {0, kStrip}, [&, w](Span part, Span) {
      for (int row = strip; row < end_of(strip, kStrip); row += R)
        weight_tile<R, P, true>(args, w, adam, part, kept.tile(row - strip, 0), row, panel);
    });
  }
}

// From x (ins, rows) and dy (outs, rows); this thread's share of the blocks of w.
void weight_gradient(Panels dy, Panels x, int rows, const Matrix& w, const Adam* adam,
                     Share& share) {
  const WeightGradient args = w.outs_in_lanes ? WeightGradient{dy, x, rows}
                                           : WeightGradient{x, dy, rows};
  if constexpr (Unit::there) {
    const Span mine = share.of(w.rows());
    const Tile to = w.of_g().tile(mine.first, 0);
    Unit::sum({panels_of(mine.last - mine.first) * kPanel, panels_of(w.lanes()), rows,
               args.row.at(mine.first / kPanel, 0), kPanel, args.row.stride, false,
               args.lane.data, kPanel, args.lane.stride,
               to.first, to.row_step, to.panel_step});
    if (adam == nullptr) return;
  }
  // With few rows Adam's traffic decides: tiles of whole 16 x 16 blocks walk memory in order.
  const int most = rows > 2 * kPanel ? Vec::tile_panels : 1;
  split_evenly(panels_of(w.lanes()), most, [&](int panel, int panels) {
    with_up_to<Vec::tile_panels>(panels, [&](auto P) {
      weight_panels<P.value>(args, w, adam, share, panel);
    });
  });
}

}  // namespace
}  // namespace microgpt
