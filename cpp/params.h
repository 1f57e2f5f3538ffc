// Every parameter tensor by name, shape and offset in the natural layout: one flat array, tensors
// in the order in which the original draws them, each stored (out, in) row by row.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "config.h"

namespace microgpt {

struct Tensor {
  std::string name;
  int rows, cols;   // (out, in)
  int64_t offset;   // of its first element in the flat array
};

// The one place that knows the tensors of a model; everything else asks it.
inline std::vector<Tensor> tensors(const Config& c) {
  std::vector<Tensor> list;
  int64_t offset = 0;
  const auto add = [&](std::string name, int rows, int cols) {
    list.push_back({std::move(name), rows, cols, offset});
    offset += int64_t{rows} * cols;
  };
  add("wte", c.vocab_size, c.n_embd);
  add("wpe", c.block_size, c.n_embd);
  add("lm_head", c.vocab_size, c.n_embd);
  for (int i = 0; i < c.n_layer; ++i) {
    const std::string layer = "layer" + std::to_string(i) + ".";
    add(layer + "attn_wq", c.n_embd, c.n_embd);
    add(layer + "attn_wk", c.n_embd, c.n_embd);
    add(layer + "attn_wv", c.n_embd, c.n_embd);
    add(layer + "attn_wo", c.n_embd, c.n_embd);
    add(layer + "mlp_fc1", 4 * c.n_embd, c.n_embd);
    add(layer + "mlp_fc2", c.n_embd, 4 * c.n_embd);
  }
  return list;
}

// Offsets of the same tensors without names: usable where no STL may be (ISA translation units).
struct Layout {
  int64_t C, T, V;
  PYMICROGPT_INLINE explicit Layout(const Config& c) : C(c.n_embd), T(c.block_size), V(c.vocab_size) {}

  PYMICROGPT_INLINE int64_t wte() const { return 0; }  // (V, C)
  PYMICROGPT_INLINE int64_t wpe() const { return V * C; }  // (T, C)
  PYMICROGPT_INLINE int64_t lm_head() const { return (V + T) * C; }  // (V, C)
  PYMICROGPT_INLINE int64_t layer(int i) const { return (2 * V + T) * C + 12 * C * C * i; }
  PYMICROGPT_INLINE int64_t attn_wq(int i) const { return layer(i); }  // (C, C)
  PYMICROGPT_INLINE int64_t attn_wk(int i) const { return layer(i) + C * C; }  // (C, C)
  PYMICROGPT_INLINE int64_t attn_wv(int i) const { return layer(i) + 2 * C * C; }  // (C, C)
  PYMICROGPT_INLINE int64_t attn_wo(int i) const { return layer(i) + 3 * C * C; }  // (C, C)
  PYMICROGPT_INLINE int64_t mlp_fc1(int i) const { return layer(i) + 4 * C * C; }  // (4C, C)
  PYMICROGPT_INLINE int64_t mlp_fc2(int i) const { return layer(i) + 8 * C * C; }  // (C, 4C)
};

PYMICROGPT_INLINE int64_t parameter_count(const Config& c) { return Layout(c).layer(c.n_layer); }

}  // namespace microgpt
