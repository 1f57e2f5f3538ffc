// What a trainer needs to know of an engine: Engine, the interface of them all, and Kernels, the
// one table that a kernel translation unit exports.
#pragma once
#include <cstddef>
#include <cstdint>

#include "config.h"

namespace microgpt {

enum class Slot { parameter, first_moment, second_moment, gradient };

// Documents to draw: `count` of them, numbers first .. first + count - 1 of the stream of `seed`.
struct Draw {
  int64_t first;
  int count;  // at most the batch size of the state
  double temperature;
  uint64_t seed;
  int top_k;              // how many of the most likely tokens are drawn from; 0: all
  const int32_t* prompt;  // (prompt_length): how every document begins after BOS
  int prompt_length;      // 0 .. most
  int most;               // tokens of a document at most; beyond T the model sees the last of them
  int32_t *tokens, *lengths;             // out: (count, most), (count)
  int32_t *active, *token_of, *node_of;  // scratch: (count) each
};

// Shares of what the MLP multiplied in the last step that was not zero, means over the layers.
struct Activity {
  double values = 0.0;  // hidden values that are not zero
  double units = 0.0;   // hidden units that are active in some row
  // Hidden units that stand still: no gradient, no step of Adam that counts. Wide models find that
  // out up to seven steps late.
  double resting = 0.0;
};

// An engine owns the parameters and the Adam moments of one model in whatever layout it likes.
class Engine {
 public:
  virtual ~Engine() = default;

  // Copies between a slot and a flat array in the natural layout of params.h. Slot::gradient is
  // only read, and holds what the last call of gradient() left.
  virtual void write(Slot slot, const double* natural) = 0;
  virtual void read(Slot slot, double* natural) const = 0;

  // Loss of the batch, and its gradients into Slot::gradient. Parameters and moments stay.
  virtual double gradient(const Batch& batch) = 0;
  // One training step: forward, backward, Adam. Returns the loss before the update.
  virtual double step(const Batch& batch, const AdamStep& adam) = 0;
  // Mean loss of the batch; forward only.
  virtual double loss(const Batch& batch) = 0;

  // A step that adds the ticks of each phase to ticks[Phase::count]; false if it has no phases.
  virtual bool profile(const Batch&, const AdamStep&, uint64_t*) { return false; }

  // Only where the record of the engine says so.
  virtual void generate(const Draw&) {}
  virtual Activity activity() const { return {}; }

  virtual size_t bytes() const = 0;  // memory held, in bytes
  virtual int threads() const { return 1; }
  virtual bool by_rival() const { return false; }  // whether the rival of its record does the steps
};

// Where the time of a step goes. Adam is part of the weight gradients, whose epilogue it is.
enum class Phase {
  batch,
  embedding_norms,
  qkv,
  attention_forward,
  forward_matrices,
  mlp_forward,
  softmax_loss,
  input_gradients,
  mlp_backward,
  weight_gradients_adam,
  mlp_weights_adam,
  attention_backward,
  norms_backward,
  embedding_adam,
  count
};
constexpr const char* kPhaseNames[] = {"batch and trie",
                                       "embedding and norms",
                                       "QKV",
                                       "attention forward",
                                       "other forward matrices",
                                       "MLP forward",
                                       "softmax and loss",
                                       "input gradients",
                                       "MLP input gradients",
                                       "weight gradients with Adam",
                                       "MLP weight gradients with Adam",
                                       "attention backward",
                                       "norms backward",
                                       "embedding backward with Adam"};

struct Setup {
  Config config;
  int batch_size;
  bool prefix_sharing;     // not of batches that attention takes by tiles
  bool skip_zeros;         // else every hidden unit counts as active, with the same results
  double beta1, beta2;     // of Adam: engines may keep its moments scaled by them
  bool generates = false;  // for generate() alone: rows come token by token
  int threads = 1;         // at most, of a call
  int longest = 1 << 30;   // positions of a training document: what batches to be fast for
};

// One call of a table's run, made by `size` threads together, each with its rank.
struct Call {
  const Batch* batch;
  bool backward;
  const AdamStep* adam;  // null: the gradients are kept instead of used
  uint64_t* ticks;       // if not null, ticks[Phase::count]: the time of each phase is added there
  int rank, size;
  void (*barrier)(void* team);  // returns when all threads have come to it
  void* team;
};

// A kernel translation unit is compiled with the flags of its ISA, keeps everything in an anonymous
// namespace, uses no STL and no static constructors, and exports one constexpr table of this type.
// Its state lives in one block of memory that the caller allocates, 64-byte aligned and zeroed.
struct Kernels {
  int lanes;  // f32 values per vector
  bool full;  // has threads, phases, prefix sharing and generation

  size_t (*bytes)(const Setup& setup);
  void (*create)(void* state, const Setup& setup);
  void (*write)(void* state, Slot slot, const double* natural);
  void (*read)(const void* state, Slot slot, double* natural);
  double (*run)(void* state, const Call& call);  // the loss, of rank 0

  // Null unless full.
  void (*generate)(void* state, const Draw& draw);
  Activity (*activity)(const void* state);  // of the last batch
  double (*fma_loop)(int64_t rounds);
  double (*read_loop)(const float* data, int64_t floats, int64_t rounds);
};

}  // namespace microgpt
