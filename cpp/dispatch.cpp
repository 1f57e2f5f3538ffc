#include "dispatch.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <thread>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

#include "batch.h"
#include "block.h"
#include "params.h"
#include "tape.h"
#include "team.h"
#include "trial.h"

namespace microgpt {
namespace {

// Bytes of memory that this machine has; 0 where it does not say.
uint64_t physical_memory() {
#if defined(_SC_PHYS_PAGES)
  const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGE_SIZE);
  if (pages > 0 && size > 0) return static_cast<uint64_t>(pages) * static_cast<uint64_t>(size);
#endif
  return 0;
}

void check_memory(double bytes) {
  const double memory = static_cast<double>(physical_memory());
  const auto gib = [](double b) {
    std::string text = std::to_string(b / 1073741824.0);
    return text.substr(0, text.find('.') + 2) + " GiB";
  };
  if (memory > 0.0 && bytes > memory)
    throw std::invalid_argument("this configuration needs " + gib(bytes) +
                                " of memory and this machine has " + gib(memory) +
                                "; take a smaller batch_size, n_embd, n_layer or block_size");
}

// The bytes of a setup, before anything is allocated.
size_t checked_bytes(const Kernels& kernels, const Setup& setup) {
  const int64_t rows = int64_t{setup.batch_size} * setup.config.block_size;
  constexpr int64_t most = (int64_t{1} << 31) / kPanel - kPanel;  // offsets of rows are 32 bits
  if (rows > most)
    throw std::invalid_argument("batch_size x block_size is " + std::to_string(rows) +
                                " positions; at most " + std::to_string(most) + " are possible");
  const size_t bytes = kernels.bytes(setup);
  check_memory(static_cast<double>(bytes));
  return bytes;
}

// An engine whose work is done by the table of one ISA, in one aligned block of memory.
class KernelEngine final : public Engine {
 public:
  // automatic: as many of the threads as pay. rival: another table that may turn out to be faster,
  // or null; who generates tries nothing, and takes it.
  KernelEngine(const Kernels& kernels, const Kernels* rival, const Setup& setup, bool automatic)
      : kernels_(setup.generates && rival != nullptr ? *rival : kernels), rival_(rival),
        bytes_(checked_bytes(kernels_, setup)), block_(bytes_), state_(block_.data()),
        team_(setup.threads),
        trial_(team_.size(), automatic, rival != nullptr && !setup.generates) {
    kernels_.create(state_, setup);
  }

  void write(Slot slot, const double* natural) override { kernels_.write(state_, slot, natural); }
  void read(Slot slot, double* natural) const override { kernels_.read(state_, slot, natural); }
  double gradient(const Batch& batch) override { return run(batch, true, nullptr, nullptr); }
  double step(const Batch& batch, const AdamStep& adam) override {
    return trial_.timed([&] { return run(batch, true, &adam, nullptr); });
  }
  double loss(const Batch& batch) override { return run(batch, false, nullptr, nullptr); }
  bool profile(const Batch& batch, const AdamStep& adam, uint64_t* ticks) override {
    if (!kernels_.full) return false;
    run(batch, true, &adam, ticks);
    return true;
  }
  void generate(const Draw& draw) override { kernels_.generate(state_, draw); }
  Activity activity() const override {
    return kernels_.full ? kernels_.activity(state_) : Activity{};
  }
  size_t bytes() const override { return bytes_; }
  int threads() const override { return trial_.threads(); }
  bool by_rival() const override { return trial_.by_rival(); }

 private:
  double run(const Batch& batch, bool backward, const AdamStep* adam, uint64_t* ticks) {
    struct Work {
      const Kernels& kernels;
      void* state;
      Call call;
      double loss;
    } work{by_rival() ? *rival_ : kernels_,
           state_,
           {&batch, backward, adam, ticks, 0, threads(),
            [](void* team) { static_cast<Team*>(team)->barrier(); }, &team_},
           0.0};
    const auto part = [](void* arg, int rank) {
      Work& w = *static_cast<Work*>(arg);
      Call call = w.call;
      call.rank = rank;
      const double loss = w.kernels.run(w.state, call);
      if (rank == 0) w.loss = loss;
    };
    if (threads() == 1) part(&work, 0);
    else team_.run(part, &work);
    return work.loss;
  }

  const Kernels& kernels_;
  const Kernels* const rival_;  // on the same state
  const size_t bytes_;
  const Block block_;
  void* const state_;  // in it
  Team team_;
  Trial trial_;
};

}  // namespace

std::unique_ptr<Engine> make_engine(const EngineRecord& record, const Setup& setup, int threads) {
  // In double: the count of parameters may be beyond any integer. Each has at least a value, two
  // moments and a gradient.
  check_memory(4.0 * sizeof(float) * parameter_count<double>(setup.config));
  if (!record.threads && threads == kAutoThreads) threads = 1;
  if (threads > 1 && !record.threads)
    throw std::invalid_argument("engine '" + record.name +
                                "' runs on one thread; threads must be 1");
  if (record.name == "tape") return std::make_unique<TapeEngine<double>>(setup.config);
  if (record.name == "tape32") return std::make_unique<TapeEngine<float>>(setup.config);
  Setup with_threads = setup;
  with_threads.threads = threads != kAutoThreads
                             ? threads
                             : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return std::make_unique<KernelEngine>(*record.kernels, record.rival, with_threads,
                                        threads == kAutoThreads);
}

}  // namespace microgpt
