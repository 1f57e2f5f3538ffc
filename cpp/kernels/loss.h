// Softmax and cross-entropy over the vocabulary.
#pragma once
#include "vec16.h"

namespace microgpt {
namespace {

// 0 for the columns of the last panel that are tokens, minus infinity for its padding.
PYMICROGPT_INLINE Vec16 padding_mask(int vocab_size) {
  float mask[kPanel];
  for (int i = 0; i < kPanel; ++i)
    mask[i] = i < vocab_size - (panels_of(vocab_size) - 1) * kPanel ? 0.0f : kMinusInf;
  return Vec16::load(mask);
}

// The largest logit of each of four rows, where at(p, i) is row i of panel p; see reduce4.
template <class At>
PYMICROGPT_INLINE Vec16 tops4(At at, int panels, const Vec16& mask) {
  Vec16 most[4];
  PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) most[i] = Vec16::load(at(panels - 1, i)) + mask;
  for (int p = 0; p < panels - 1; ++p)
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) most[i] = max(most[i], Vec16::load(at(p, i)));
  return max_across_quads(max4(most[0], most[1], most[2], most[3]));
}

// Probabilities over logits, in place, times the row's weight: logits -> weight softmax(logits),
// and log sum exp into lse. Entries of the padding become 0. Rows up to the next multiple of four
// are computed too. P panels, whose exponentials stay in registers, or 0: any number, in memory.
template <int P>
void softmax_panels(Panels logits, float* lse, const float* weight, Span rows, int vocab_size) {
  const int panels = P > 0 ? P : panels_of(vocab_size);
  const Vec16 mask = padding_mask(vocab_size);
  for (int n = rows.first; n < rows.last; n += 4) {
    const auto at = [&](int p, int i) { return logits.at(p, int64_t{n + i} * kPanel); };
    const Vec16 top = tops4(at, panels, mask);
    Vec16 sum[4], kept[4][P > 0 ? P : 1];
    for4([&](int i, const Vec16& m) {
      sum[i] = Vec16::set(0.0f);
      for (int p = 0; p < panels; ++p) {
        Vec16 x = Vec16::load(at(p, i)) - m;
        if (p == panels - 1) x = x + mask;
        const Vec16 e = exp(x);
        sum[i] = sum[i] + e;
        if constexpr (P > 0) kept[i][p] = e;
        else e.store(at(p, i));
      }
    }, top);
    const Vec16 total = across_quads(reduce4(sum[0], sum[1], sum[2], sum[3]));
    (top + log(total)).store_quad(lse + n);
    for4([&](int i, const Vec16& s) {
      for (int p = 0; p < panels; ++p)
        ((P > 0 ? kept[i][P > 0 ? p : 0] : Vec16::load(at(p, i))) * s).store(at(p, i));
    }, Vec16::load_quad(weight + n) / total);
  }
}

void softmax_rows(Panels logits, float* lse, const float* weight, Span rows, int vocab_size) {
  with_one_of<2>(Vec::compact ? 0 : panels_of(vocab_size), [&](auto P) {
    softmax_panels<P.value>(logits, lse, weight, rows, vocab_size);
  });
}

// For the entries whose nodes lie in the span: nll = lse - logits[target]; logits become dlogits =
// sum over the entries of the row of weight (softmax - onehot(target)).
void cross_entropy(Panels logits, float* lse, float* nll, const Prefixes& shared, Span nodes,
                   int vocab_size) {
  const Prefixes prefixes = shared;  // a copy, which no store can alias
  const bool all = nodes.first == 0 && nodes.last == prefixes.nodes;
  const auto each_entry = [&](auto f) {
    for (int i = 0; i < prefixes.entries; ++i) {
      const int node = prefixes.entry_node[i];
      const auto target = static_cast<unsigned>(prefixes.entry_target[i]);  // as a shift and a mask
      if (!all && (node < nodes.first || node >= nodes.last)) continue;
      f(i, logits.at(static_cast<int>(target / kPanel), int64_t{node} * kPanel + target % kPanel));
    }
  };
  each_entry([&](int i, const float* logit) { nll[i] = *logit; });
  softmax_rows(logits, lse, prefixes.weight, nodes, vocab_size);
  each_entry([&](int i, float* dlogit) {
    nll[i] = lse[prefixes.entry_node[i]] - nll[i];
    *dlogit -= prefixes.entry_weight[i];
  });
}

// sum over entries of weight nll, in their order
double total_loss(const float* nll, const Prefixes& prefixes) {
  double loss = 0.0;
  for (int i = 0; i < prefixes.entries; ++i)
    loss += static_cast<double>(prefixes.entry_weight[i]) * static_cast<double>(nll[i]);
  return loss;
}

}  // namespace
}  // namespace microgpt
