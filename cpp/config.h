// The shape of a model, and the settings of one optimizer step. Names are those of the original.
#pragma once
#include <cstdint>

#include "compiler.h"

namespace microgpt {

struct Config {
  int n_layer;     // L >= 1
  int n_embd;      // C, divisible by n_head
  int n_head;      // H
  int block_size;  // T >= 1
  int vocab_size;  // V >= 2; token V-1 is BOS

  PYMICROGPT_INLINE int head_dim() const { return n_embd / n_head; }  // D
};

// Tokenised documents, each with BOS at both ends: document d is
// tokens[offsets[d] .. offsets[d + 1]) and has min(T, length - 1) positions.
struct Documents {
  const int32_t* tokens;   // (offsets[count],)
  const int64_t* offsets;  // (count + 1,)
  int64_t count;

  PYMICROGPT_INLINE const int32_t* begin(int64_t d) const { return tokens + offsets[d]; }
  PYMICROGPT_INLINE int positions(int64_t d, int block_size) const {
    const int64_t n = offsets[d + 1] - offsets[d] - 1;
    return static_cast<int>(n < block_size ? n : block_size);
  }
};

// The documents of one step: first, first + 1, ... (mod documents.count), size of them.
struct Batch {
  Documents documents;
  int64_t first;
  int size;

  PYMICROGPT_INLINE int64_t at(int i) const { return (first + i) % documents.count; }
};

// One Adam update: p -= rate * (m / correction1) / (sqrt(v / correction2) + eps)
struct AdamStep {
  double rate;  // lr * (1 - step / num_steps)
  double beta1, beta2;
  double correction1;  // 1 - beta1^(step + 1)
  double correction2;  // 1 - beta2^(step + 1)
  double eps;
};

}  // namespace microgpt
