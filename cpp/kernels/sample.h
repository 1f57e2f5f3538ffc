// Drawing tokens from softmax(logits / temperature).
#pragma once
#include "loss.h"

namespace microgpt {
namespace {

// A uniform number in [0, 1) of 24 bits that depends on its arguments alone, so that samples do not
// depend on how they are batched: two rounds of the finaliser of SplitMix64 (Steele, Lea and Flood,
// "Fast splittable pseudorandom number generators", 2014).
PYMICROGPT_INLINE float uniform(uint64_t seed, uint64_t document, uint64_t position) {
  const auto mix = [](uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  };
  const uint64_t bits = mix(mix(seed + document * 0x9E3779B97F4A7C15u) + position);
  return static_cast<float>(bits >> 40) * 0x1p-24f;
}

// The k-th largest of the logits of a row, equal ones counted one by one.
PYMICROGPT_INLINE float kth_largest(const float* row, int64_t stride, int vocab_size, int k) {
  float bound = -kMinusInf;
  for (int seen = 0; seen < k;) {
    float most = kMinusInf;
    int equal = 0;
    for (int v = 0; v < vocab_size; ++v) {
      const float x = row[v / kPanel * stride + v % kPanel];
      if (x >= bound || x < most) continue;
      equal = x > most ? 1 : equal + 1;
      most = x;
    }
    if (equal == 0) break;  // what is left is not a number
    seen += equal;
    bound = most;
  }
  return bound;
}

// Logits below the k-th largest of their row become minus infinity, the probability 0.
void keep_top(Panels logits, Span rows, int vocab_size, int k) {
  for (int n = rows.first; n < rows.last; ++n) {
    float* row = logits.at(0, int64_t{n} * kPanel);
    const float least = kth_largest(row, logits.stride, vocab_size, k);
    for (int v = 0; v < vocab_size; ++v) {
      float& x = row[v / kPanel * logits.stride + v % kPanel];
      if (x < least) x = kMinusInf;
    }
  }
}

// logits -> running sums of exp((logit - max) / temperature), in place. Rows up to the next
// multiple of four after the span's first are computed too.
void cumulate(Panels logits, Span rows, int vocab_size, float inverse_temperature) {
  const int panels = panels_of(vocab_size);
  const Vec16 inverse = Vec16::set(inverse_temperature), mask = padding_mask(vocab_size);
  for (int n = rows.first; n < rows.last; n += 4) {
    const auto at = [&](int p, int i) { return logits.at(p, int64_t{n + i} * kPanel); };
    for4(
        [&](int i, const Vec16& top) {
          for (int p = 0; p < panels; ++p)
            exp((Vec16::load(at(p, i)) - top) * inverse).store(at(p, i));
        },
        tops4(at, panels, mask));
    // Four chains of additions at a time: each waits for itself alone.
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int v = 0; v < vocab_size; ++v) PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
        float* x = at(v / kPanel, i) + v % kPanel;
        *x = sum[i] += *x;
      }
  }
}

// The first token whose running sum exceeds u times the last one, by bisection without branches.
PYMICROGPT_INLINE int pick(const float* row, int64_t stride, int vocab_size, float u) {
  const auto sum = [&](int v) { return row[v / kPanel * stride + v % kPanel]; };
  const float target = u * sum(vocab_size - 1);
  int first = 0;
  for (int left = vocab_size - 1; left > 0;) {  // the answer is one of first .. first + left
    const int half = (left + 1) / 2;
    first += sum(first + half - 1) <= target ? half : 0;
    left -= half;
  }
  return first;
}

}  // namespace
}  // namespace microgpt
