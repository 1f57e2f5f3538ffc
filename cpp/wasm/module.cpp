// The C interface of the WebAssembly modules: one training around the table of kernels that the
// module is linked with. Who calls it has checked the arguments (web/model.js); pointers are
// offsets into the module's memory, from allocate().
#include "../engine.h"
#include "../params.h"

namespace microgpt {
extern const Kernels PYMICROGPT_TABLE;
}
using namespace microgpt;

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

namespace {

struct Training {
  void* state;
  Setup setup;
  Documents documents;
  double learning_rate, eps, num_steps;
  int64_t step;  // steps done

  Batch next() const {
    return {documents, step * setup.batch_size % documents.count, setup.batch_size};
  }
  AdamStep adam() const {
    const double t = static_cast<double>(step);
    return {learning_rate * (1.0 - t / num_steps),
            setup.beta1,
            setup.beta2,
            1.0 - __builtin_pow(setup.beta1, t + 1.0),
            1.0 - __builtin_pow(setup.beta2, t + 1.0),
            eps};
  }
  double run(bool backward, const AdamStep* adam) {
    const Batch batch = next();
    return PYMICROGPT_TABLE.run(state, {&batch, backward, adam, nullptr, 0, 1, nullptr, nullptr});
  }
};

Setup setup_of(int n_layer, int n_embd, int n_head, int block_size, int vocab_size,
               int batch_size) {
  return {{n_layer, n_embd, n_head, block_size, vocab_size}, batch_size, true, true, 0.85, 0.99};
}

}  // namespace

// Zeroed bytes, 64-byte aligned; 0 where there is no more memory. Nothing is ever given back: a
// training has an instance of the module to itself.
EXPORT(allocate) void* allocate(size_t bytes) {
  static uintptr_t next, end;  // what is left of the pages taken so far, which are zero
  constexpr size_t page = 65536;
  const uint64_t whole = (uint64_t{bytes} + 63) / 64 * 64;
  if (whole > end - next) {
    const size_t pages = static_cast<size_t>((whole + page - 1) / page);
    const size_t first = __builtin_wasm_memory_grow(0, pages);
    if (first == SIZE_MAX) return nullptr;
    if (first * page != end) next = first * page;  // the tape takes pages of its own
    end = (first + pages) * page;
  }
  void* block = reinterpret_cast<void*>(next);
  next += static_cast<size_t>(whole);
  return block;
}

// What the state of a training takes.
EXPORT(bytes)
double bytes(int n_layer, int n_embd, int n_head, int block_size, int vocab_size, int batch_size) {
  return static_cast<double>(PYMICROGPT_TABLE.bytes(
      setup_of(n_layer, n_embd, n_head, block_size, vocab_size, batch_size)));
}

// Documents as in config.h, which stay where they are. 0 where there is no more memory.
EXPORT(create)
Training* create(int n_layer, int n_embd, int n_head, int block_size, int vocab_size,
                 int batch_size, double learning_rate, double num_steps, const int32_t* tokens,
                 const int64_t* offsets, int count) {
  Training* t = static_cast<Training*>(allocate(sizeof(Training)));
  if (t == nullptr) return nullptr;
  *t = {nullptr,
        setup_of(n_layer, n_embd, n_head, block_size, vocab_size, batch_size),
        {tokens, offsets, count},
        learning_rate,
        1e-8,
        num_steps,
        0};
  t->state = allocate(PYMICROGPT_TABLE.bytes(t->setup));
  if (t->state == nullptr) return nullptr;
  PYMICROGPT_TABLE.create(t->state, t->setup);
  return t;
}

// Every tensor of a slot (engine.h), in the natural layout of params.h.
EXPORT(write) void write(Training* t, int slot, const double* natural) {
  PYMICROGPT_TABLE.write(t->state, static_cast<Slot>(slot), natural);
}
EXPORT(read) void read(const Training* t, int slot, double* natural) {
  PYMICROGPT_TABLE.read(t->state, static_cast<Slot>(slot), natural);
}

// Goes on as after so many steps.
EXPORT(seek) void seek(Training* t, double step) { t->step = static_cast<int64_t>(step); }

// n steps; losses (n), each before its update.
EXPORT(steps) void steps(Training* t, int n, double* losses) {
  for (int i = 0; i < n; ++i, ++t->step) {
    const AdamStep adam = t->adam();
    losses[i] = t->run(true, &adam);
  }
}

// Of the next batch; nothing moves. gradient() leaves its gradients in Slot::gradient.
EXPORT(loss) double loss(Training* t) { return t->run(false, nullptr); }
EXPORT(gradient) double gradient(Training* t) { return t->run(true, nullptr); }

#ifdef PYMICROGPT_FULL
// Documents 0 .. count - 1 of the stream of `seed`, at most batch_size of them: tokens (count, T)
// and lengths (count); scratch (3, count).
EXPORT(generate)
void generate(Training* t, int count, double temperature, double seed, int top_k,
              const int32_t* prompt, int prompt_length, int32_t* tokens, int32_t* lengths,
              int32_t* scratch) {
  PYMICROGPT_TABLE.generate(t->state, {0, count, temperature, static_cast<uint64_t>(seed), top_k,
                                       prompt, prompt_length, t->setup.config.block_size, tokens,
                                       lengths, scratch, scratch + count, scratch + 2 * count});
}

// Multiply-adds alone; returns how many floating-point operations they were.
EXPORT(fma_loop) double fma_loop(double rounds) {
  return PYMICROGPT_TABLE.fma_loop(static_cast<int64_t>(rounds));
}
#endif
