// The parameter tensors of a model, described once, and where they stand in the natural layout: one
// flat array of all of them, each stored (out, in) row by row, those that the model has once before
// those of the layers, in the order in which the original draws them.
#pragma once
#include <cstdint>

#include "config.h"

namespace microgpt {

// X(name, rows, columns, how often): rows and columns are Sides, out and in of a matrix; a vector
// has one row. pymicrogpt/config.py has the same list, and tests/test_config.py compares them.
#define PYMICROGPT_TENSORS(X)           \
  X(wte, vocab_size, n_embd, once)      \
  X(wpe, block_size, n_embd, once)      \
  X(lm_head, vocab_size, n_embd, once)  \
  X(attn_wq, n_embd, n_embd, per_layer) \
  X(attn_wk, n_embd, n_embd, per_layer) \
  X(attn_wv, n_embd, n_embd, per_layer) \
  X(attn_wo, n_embd, n_embd, per_layer) \
  X(mlp_fc1, hidden, n_embd, per_layer) \
  X(mlp_fc2, n_embd, hidden, per_layer)

#define ENUMERATOR(name, rows, columns, often) name,
enum class Param : int { PYMICROGPT_TENSORS(ENUMERATOR) };
#undef ENUMERATOR

enum class Side { one, n_embd, hidden, block_size, vocab_size };  // hidden: 4 n_embd
enum class Often { once, per_layer };

struct TensorKind {
  Side rows, columns;
  Often often;
};
#define KIND(name, rows, columns, often) {Side::rows, Side::columns, Often::often},
constexpr TensorKind kTensors[] = {PYMICROGPT_TENSORS(KIND)};
#undef KIND
constexpr int kTensorKinds = sizeof kTensors / sizeof *kTensors;

PYMICROGPT_INLINE constexpr bool layers_come_last() {
  for (int p = 1; p < kTensorKinds; ++p)
    if (kTensors[p].often == Often::once && kTensors[p - 1].often == Often::per_layer) return false;
  return true;
}
static_assert(layers_come_last(), "list the tensors that a model has once before those of a layer");

PYMICROGPT_INLINE constexpr TensorKind kind_of(Param p) { return kTensors[static_cast<int>(p)]; }

PYMICROGPT_INLINE constexpr int64_t length_of(Side side, const Config& c) {
  return side == Side::n_embd       ? c.n_embd
         : side == Side::hidden     ? int64_t{4} * c.n_embd
         : side == Side::block_size ? c.block_size
         : side == Side::vocab_size ? c.vocab_size
                                    : 1;
}

// f(tensor, layer) for every tensor, in the order of the natural layout; layer is 0 for those that
// the model has once.
template <class F>
PYMICROGPT_INLINE void each_tensor(const Config& c, F f) {
  for (int layer = 0; layer < c.n_layer; ++layer)
    for (int p = 0; p < kTensorKinds; ++p)
      if (layer == 0 || kTensors[p].often == Often::per_layer) f(static_cast<Param>(p), layer);
}

// Numbers that are trained. In double where they may be beyond any integer.
template <class Number = int64_t>
PYMICROGPT_INLINE Number parameter_count(const Config& c) {
  Number once = 0, of_layer = 0;
  for (const TensorKind& t : kTensors)
    (t.often == Often::once ? once : of_layer) +=
        static_cast<Number>(length_of(t.rows, c)) * static_cast<Number>(length_of(t.columns, c));
  return once + static_cast<Number>(c.n_layer) * of_layer;
}

// Where each tensor begins in the natural layout: at(Param::attn_wq, layer) or at.attn_wq(layer),
// of a Layout `at`. The loop is over constants, so that little of it is left.
class Layout {
 public:
  PYMICROGPT_INLINE explicit Layout(const Config& c) : config_(c) {}
  PYMICROGPT_INLINE int64_t operator()(Param p, int layer = 0) const {
    int64_t before = 0, of_layer = 0;
    PYMICROGPT_UNROLL for (int i = 0; i < kTensorKinds; ++i) {
      const TensorKind t = kTensors[i];
      const int64_t size = length_of(t.rows, config_) * length_of(t.columns, config_);
      if (i < static_cast<int>(p)) before += size;
      if (t.often == Often::per_layer) of_layer += size;
    }
    return before + layer * of_layer;
  }
#define OFFSET(name, rows, columns, often) \
  PYMICROGPT_INLINE int64_t name(int layer = 0) const { return (*this)(Param::name, layer); }
  PYMICROGPT_TENSORS(OFFSET)
#undef OFFSET

 private:
  Config config_;
};

}  // namespace microgpt
