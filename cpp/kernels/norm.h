// RMSNorm without gain, and the embedding before it; four rows at a time, so that one square root
// and one division serve four.
#pragma once
#include "matrix.h"

namespace microgpt {
namespace {

constexpr float kNormEps = 1e-5f;

// The four rows' sums over features: sum of f(p, i) over panels p for rows i, in every quad.
template <class F>
PYMICROGPT_INLINE Vec16 sums4(int panels, F f) {
  Vec16 s[4];
  PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) s[i] = Vec16::set(0.0f);
  for (int p = 0; p < panels; ++p)
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) s[i] = f(p, i, s[i]);
  return across_quads(reduce4(s[0], s[1], s[2], s[3]));
}

// y = x r, r = (mean x^2 + eps)^-1/2, where four_at(n)(p, i) is row n + i of panel p of x. Rows up
// to the next multiple of four are computed and written too: there is room for them, and nobody
// reads them.
template <class Four>
PYMICROGPT_INLINE void rms_rows(Panels y, float* r, int all_panels, Span rows, int n_embd,
                                Four four_at) {
  const Vec16 inverse_n = Vec16::set(1.0f / static_cast<float>(n_embd)), eps = Vec16::set(kNormEps);
  with_one_of<1>(Vec::compact ? 0 : all_panels, [&](auto P) {
    const int panels = P > 0 ? P : all_panels;
    for (int64_t n = rows.first; n < rows.last; n += 4) {
      const auto x = four_at(n);
      const Vec16 squares = sums4(panels, [&](int p, int i, const Vec16& s) {
        const Vec16 xi = x(p, i);
        return fma(xi, xi, s);
      });
      const Vec16 inverse = Vec16::set(1.0f) / sqrt(fma(squares, inverse_n, eps));
      inverse.store_quad(r + n);
      Vec16 by[4];
      for4([&](int i, const Vec16& ri) { by[i] = ri; }, inverse);
      float* to = y.at(0, n * kPanel);
      for (int p = 0; p < panels; ++p, to += y.stride)
        PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) (x(p, i) * by[i]).store(to + i * kPanel);
    }
  });
}

void rms_forward(Panels y, float* r, Panels x, int panels, Span rows, int n_embd) {
  rms_rows(y, r, panels, rows, n_embd, [&](int64_t n) {
    const float* row = x.at(0, n * kPanel);
    return [=](int p, int i) { return Vec16::load(row + p * x.stride + i * kPanel); };
  });
}

// dx = carry + r (dy - y mean(dy y)), where carry is the gradient that comes past the norm, if any.
void rms_backward(Panels dx, Panels dy, Panels y, const float* r, int all_panels, Span rows,
                  int n_embd, Panels carry) {
  const Vec16 inverse_n = Vec16::set(1.0f / static_cast<float>(n_embd));
  with_one_of<1>(Vec::compact ? 0 : all_panels, [&](auto P) {
    const int panels = P > 0 ? P : all_panels;
    for (int64_t n = rows.first; n < rows.last; n += 4) {
      const auto at = [&](int i) { return (n + i) * kPanel; };
      const Vec16 dot = sums4(panels, [&](int p, int i, const Vec16& s) {
        return fma(Vec16::load(dy.at(p, at(i))), Vec16::load(y.at(p, at(i))), s);
      });
      Vec16 by[4], less[4];
      for4([&](int i, const Vec16& ri, const Vec16& mi) { by[i] = ri, less[i] = mi; },
           Vec16::load_quad(r + n), dot * inverse_n);
      for (int p = 0; p < panels; ++p)
        PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
          const Vec16 d = Vec16::load(dy.at(p, at(i))) - Vec16::load(y.at(p, at(i))) * less[i];
          const Vec16 past =
              carry.data != nullptr ? Vec16::load(carry.at(p, at(i))) : Vec16::set(0.0f);
          fma(d, by[i], past).store(dx.at(p, at(i)));
        }
    }
  });
}

void clear(Panels x, int panel, Span rows) {
  for (int n = rows.first; n < rows.last; ++n)
    Vec16::set(0.0f).store(x.at(panel, int64_t{n} * kPanel));
}

// sum[pair] = sum of x over the pair's nodes, for the pairs of a span.
void sum_by_pair(Panels sum, Panels x, const Prefixes& shared, int panels, Span pairs) {
  const Prefixes prefixes = shared;  // a copy, which no store can alias
  const int first = pairs.first * kPanel, last = pairs.last * kPanel;
  for (int p = 0; p < panels; ++p) {
    clear(sum, p, pairs);
    for (int n = 0; n < prefixes.nodes; ++n) {
      const int pair = prefixes.pair_of[n];
      if (pair < first || pair >= last) continue;
      float* to = sum.at(p, pair);
      (Vec16::load(to) + Vec16::load(x.at(p, int64_t{n} * kPanel))).store(to);
    }
  }
}

// An embedding table (rows, 16 panels), contiguous.
struct Table {
  float *p, *m, *v, *g;
  int rows, width;

  PYMICROGPT_INLINE int64_t size() const { return int64_t{rows} * width; }
  PYMICROGPT_INLINE int64_t at(int row, int feature) const {
    return int64_t{row} * width + feature;
  }
  PYMICROGPT_INLINE Table part(int row, int count) const {
    const int64_t from = at(row, 0);
    return {p + from, m + from, v + from, g + from, count, width};
  }
};

// x = rms(wte[token] + wpe[position])
void embed_forward(Panels x, float* r, const Table& tokens, const Table& positions,
                   const Prefixes& shared, int panels, Span pairs, int n_embd) {
  const Table wte = tokens, wpe = positions;  // copies, which no store can alias
  const Prefixes prefixes = shared;
  const int64_t last = prefixes.pairs - 1;
  rms_rows(x, r, panels, pairs, n_embd, [&](int64_t n) {
    struct {
      const float *token[4], *position[4];
    } row;
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
      const int64_t pair = n + i < last ? n + i : last;
      row.token[i] = wte.p + wte.at(prefixes.pair_token[pair], 0);
      row.position[i] = wpe.p + wpe.at(prefixes.pair_position[pair], 0);
    }
    return [row](int p, int i) {
      return Vec16::load(row.token[i] + p * kPanel) + Vec16::load(row.position[i] + p * kPanel);
    };
  });
}

// g[token[pair]] += de[pair], g[position[pair]] += de[pair], then Adam. Rows of positions stand
// behind `tokens` rows of tokens.
void embed_backward(const Table& both, int tokens, Panels de, const Prefixes& shared, int panels,
                    const Adam* step) {
  const Table t = both;  // copies, which no store can alias
  const Prefixes prefixes = shared;
  for (int64_t i = 0; i < t.size(); i += kPanel) Vec16::set(0.0f).store(t.g + i);
  for (int n = 0; n < prefixes.pairs; ++n) {
    float *token = t.g + t.at(prefixes.pair_token[n], 0),
          *position = t.g + t.at(tokens + prefixes.pair_position[n], 0);
    for (int p = 0; p < panels; ++p) {
      const Vec16 d = Vec16::load(de.at(p, int64_t{n} * kPanel));
      (Vec16::load(token + p * kPanel) + d).store(token + p * kPanel);
      (Vec16::load(position + p * kPanel) + d).store(position + p * kPanel);
    }
  }
  if (step == nullptr) return;
  const Adam adam = *step;
  const auto update = [&](int64_t i, bool other) PYMICROGPT_INLINED {
    adam.update(Vec::load(t.p + i), Vec::load(t.g + i), t.m + i, t.v + i, other).store(t.p + i);
  };
  int64_t i = 0;
  for (; i + 2 * Vec::lanes <= t.size(); i += 2 * Vec::lanes) {
    update(i, false);
    update(i + Vec::lanes, true);
  }
  if (i < t.size()) update(i, false);
}

}  // namespace
}  // namespace microgpt
