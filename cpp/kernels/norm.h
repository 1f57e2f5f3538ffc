// RMSNorm without gain, and the embedding before it; four rows at a time, so that one square root
// and one division serve four.
#pragma once
#include "matrix.h"

namespace microgpt {
namespace {

constexpr float kNormEps = 1e-5f;

// The four rows' sums over features: sum of f(p, i) over panels p for rows i, in every quad.
template <class F>
PYMICROGPT_INLINE Row sums4(int panels, F f) {
  Row s[4];
  PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) s[i] = Row::set(0.0f);
  for (int p = 0; p < panels; ++p)
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) s[i] = f(p, i, s[i]);
  return across_quads(reduce4(s[0], s[1], s[2], s[3]));
}

// y = x r, r = (mean x^2 + eps)^-1/2, where load(p, n) is row n of panel p of x. Rows up to the
// next multiple of four are computed and written too: there is room for them, and nobody reads them.
template <class Load>
PYMICROGPT_INLINE void rms_rows(Panels y, float* r, int panels, Span rows, int n_embd, Load load) {
  const Row inverse_n = Row::set(1.0f / static_cast<float>(n_embd)), eps = Row::set(kNormEps);
  for (int n = rows.first; n < rows.last; n += 4) {
    const Row squares = sums4(panels, [&](int p, int i, const Row& s) {
      const Row x = load(p, n + i);
      return fma(x, x, s);
    });
    const Row inverse = Row::set(1.0f) / sqrt(fma(squares, inverse_n, eps));
    inverse.store_quad(r + n);
    for4([&](int i, const Row& ri) {
      for (int p = 0; p < panels; ++p)
        (load(p, n + i) * ri).store(y.at(p, int64_t{n + i} * kPanel));
    }, inverse);
  }
}

void rms_forward(Panels y, float* r, Panels x, int panels, Span rows, int n_embd) {
  rms_rows(y, r, panels, rows, n_embd,
           [&](int p, int n) { return Row::load(x.at(p, int64_t{n} * kPanel)); });
}

// dx = carry + r (dy - y mean(dy y)), where carry is the gradient that comes past the norm, if any.
void rms_backward(Panels dx, Panels dy, Panels y, const float* r, int panels, Span rows, int n_embd,
                  Panels carry) {
  const Row inverse_n = Row::set(1.0f / static_cast<float>(n_embd));
  for (int n = rows.first; n < rows.last; n += 4) {
    const auto at = [&](int i) { return int64_t{n + i} * kPanel; };
    const Row dot = sums4(panels, [&](int p, int i, const Row& s) {
      return fma(Row::load(dy.at(p, at(i))), Row::load(y.at(p, at(i))), s);
    });
    const Row mean = dot * inverse_n;
    for4([&](int i, const Row& ri, const Row& mi) {
      for (int p = 0; p < panels; ++p) {
        const Row d = Row::load(dy.at(p, at(i))) - Row::load(y.at(p, at(i))) * mi;
        const Row past = carry.data != nullptr ? Row::load(carry.at(p, at(i))) : Row::set(0.0f);
        fma(d, ri, past).store(dx.at(p, at(i)));
      }
    }, Row::load_quad(r + n), mean);
  }
}

void clear(Panels x, int panel, Span rows) {
  for (int n = rows.first; n < rows.last; ++n)
    Row::set(0.0f).store(x.at(panel, int64_t{n} * kPanel));
}

// sum[pair] = sum of x over the pair's nodes, for the pairs of a span.
void sum_by_pair(Panels sum, Panels x, const Rows& shared, int panels, Span pairs) {
  const Rows rows = shared;  // a copy, which no store can alias
  const int first = pairs.first * kPanel, last = pairs.last * kPanel;
  for (int p = 0; p < panels; ++p) {
    clear(sum, p, pairs);
    for (int n = 0; n < rows.nodes; ++n) {
      const int pair = rows.pair_of[n];
      if (pair < first || pair >= last) continue;
      float* to = sum.at(p, pair);
      (Row::load(to) + Row::load(x.at(p, int64_t{n} * kPanel))).store(to);
    }
  }
}

// An embedding table (rows, 16 panels), contiguous.
struct Table {
  float *p, *m, *v, *g;
  int rows, width;

  PYMICROGPT_INLINE int64_t size() const { return int64_t{rows} * width; }
  PYMICROGPT_INLINE int64_t at(int row, int feature) const { return int64_t{row} * width + feature; }
  // There is no second copy, as a Matrix may have one.
  PYMICROGPT_INLINE static float* transposed() { return nullptr; }
  PYMICROGPT_INLINE static int64_t transposed_at(int, int) { return 0; }
};

// x = rms(wte[token] + wpe[position])
void embed_forward(Panels x, float* r, const Table& tokens, const Table& positions,
                   const Rows& shared, int panels, Span pairs, int n_embd) {
  const Table wte = tokens, wpe = positions;  // copies, which no store can alias
  const Rows rows = shared;
  const int last = rows.pairs - 1;
  rms_rows(x, r, panels, pairs, n_embd, [&](int p, int n) {
    const int pair = n < last ? n : last;
    return Row::load(wte.p + wte.at(rows.pair_token[pair], p * kPanel)) +
           Row::load(wpe.p + wpe.at(rows.pair_position[pair], p * kPanel));
  });
}

// g[row_of[pair]] += de[pair], then Adam.
void table_backward(const Table& table, const int32_t* row_of, Panels de, const Rows& shared,
                    int panels, const Adam* step) {
  const Table t = table;  // copies, which no store can alias
  const Rows rows = shared;
  for (int64_t i = 0; i < t.size(); i += kPanel) Row::set(0.0f).store(t.g + i);
  for (int n = 0; n < rows.pairs; ++n) {
    float* g = t.g + t.at(row_of[n], 0);
    for (int p = 0; p < panels; ++p)
      (Row::load(g + p * kPanel) + Row::load(de.at(p, int64_t{n} * kPanel))).store(g + p * kPanel);
  }
  if (step == nullptr) return;
  const Adam adam = *step;
  for (int64_t i = 0; i < t.size(); i += V::lanes)
    adam.update(V::load(t.p + i), V::load(t.g + i), t.m + i, t.v + i).store(t.p + i);
}

}  // namespace
}  // namespace microgpt
