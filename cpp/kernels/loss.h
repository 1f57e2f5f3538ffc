// Softmax and cross-entropy over the vocabulary.
#pragma once
#include "row.h"

namespace microgpt {
namespace {

// Probabilities over logits, in place, times the row's weight: logits -> weight softmax(logits), and
// log sum exp into lse. Entries of the padding become 0. Rows up to the next multiple of four are
// computed too.
void softmax_rows(Panels logits, float* lse, const float* weight, int rows, int vocab_size) {
  const int panels = panels_of(vocab_size), in_last = vocab_size - (panels - 1) * kPanel;
  float padding[kPanel];
  for (int i = 0; i < kPanel; ++i) padding[i] = i < in_last ? 0.0f : kMinusInf;
  const Row mask = Row::load(padding);
  for (int n = 0; n < rows; n += 4) {
    const auto at = [&](int p, int i) { return logits.at(p, int64_t{n + i} * kPanel); };
    Row most[4];
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) most[i] = Row::load(at(panels - 1, i)) + mask;
    for (int p = 0; p < panels - 1; ++p)
      PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) most[i] = max(most[i], Row::load(at(p, i)));
    const Row top = max_across_quads(max4(most[0], most[1], most[2], most[3]));
    Row sum[4];
    for4([&](int i, const Row& m) {
      sum[i] = Row::set(0.0f);
      for (int p = 0; p < panels; ++p) {
        Row x = Row::load(at(p, i)) - m;
        if (p == panels - 1) x = x + mask;
        const Row e = exp(x);
        sum[i] = sum[i] + e;
        e.store(at(p, i));
      }
    }, top);
    const Row total = across_quads(reduce4(sum[0], sum[1], sum[2], sum[3]));
    (top + log(total)).store_quad(lse + n);
    for4([&](int i, const Row& s) {
      for (int p = 0; p < panels; ++p) (Row::load(at(p, i)) * s).store(at(p, i));
    }, Row::load_quad(weight + n) / total);
  }
}

// loss = sum over entries of weight (lse - logits[target]); with `backward`, logits become
// dlogits = sum over the entries of the row of weight (softmax - onehot(target)).
double loss_and_gradient(Panels logits, float* lse, const Rows& rows, int vocab_size,
                         float* target_logit, bool backward) {
  const auto at = [&](int i) {
    const int target = rows.entry_target[i];
    return logits.at(target / kPanel, int64_t{rows.entry_node[i]} * kPanel + target % kPanel);
  };
  for (int i = 0; i < rows.entries; ++i) target_logit[i] = *at(i);
  softmax_rows(logits, lse, rows.weight, rows.nodes, vocab_size);
  double loss = 0.0;
  for (int i = 0; i < rows.entries; ++i) {
    const double nll = static_cast<double>(lse[rows.entry_node[i]]) - target_logit[i];
    loss += rows.entry_weight[i] * nll;
    if (backward) *at(i) -= rows.entry_weight[i];
  }
  return loss;
}

}  // namespace
}  // namespace microgpt
