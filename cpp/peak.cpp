#include "peak.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>

#include "compiler.h"
#include "registry.h"

namespace microgpt {
namespace {

// Best rate of work(rounds), which returns how much it did, over runs of about a millisecond.
template <class Work>
double best_rate(int runs, Work work) {
  using Clock = std::chrono::steady_clock;
  double best = 0.0, seconds = 0.0;
  int64_t rounds = 16;
  for (int run = 0; run < runs; run += seconds >= 1e-3) {
    const auto start = Clock::now();
    const double done = work(rounds);
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (seconds < 1e-3) rounds *= 2;
    else if (done / seconds > best) best = done / seconds;
  }
  return best;
}

// rounds * 32 additions in a chain; two registers, since a CPU may do that of a constant for free.
int64_t add_chain(int64_t rounds) {
#if defined(__GNUC__) || defined(__clang__)
  uint64_t x = 1, y = 3;
  for (int64_t i = 0; i < rounds; ++i) {
  PYMICROGPT_UNROLL
    for (int k = 0; k < 32; ++k) {
      x += y;
      __asm__ volatile("" : "+r"(x), "+r"(y));
    }
  }
  return 32 * rounds;
#else
  return 0 * rounds;
#endif
}

const Kernels& full_kernels(const std::string& engine) {
  const Kernels* kernels = choose(engine).kernels;
  if (kernels == nullptr || !kernels->full)
    throw std::invalid_argument("engine '" + engine + "' has no vectors of its own to measure");
  return *kernels;
}

}  // namespace

double measure_fma(const std::string& engine, int runs) {
  const Kernels& kernels = full_kernels(engine);
  return best_rate(runs, [&](int64_t n) { return kernels.fma_loop(n); });
}

double measure_clock(int runs) {
  return add_chain(1) > 0 ? best_rate(runs, [](int64_t n) { return double(add_chain(n)); }) : 0.0;
}

Peak measure_peak(const std::string& engine, int runs) {
  const Kernels& kernels = full_kernels(engine);
  constexpr int64_t l1 = 16 * 1024 / 4, l2 = 256 * 1024 / 4;
  struct alignas(64) Buffer {
    float data[l2] = {};
  };
  const auto buffer = std::make_unique<Buffer>();
  const float* data = buffer->data;
  return {measure_fma(engine, runs),
          best_rate(runs, [&](int64_t n) { return kernels.read_loop(data, l1, n); }),
          best_rate(runs, [&](int64_t n) { return kernels.read_loop(data, l2, n); })};
}

}  // namespace microgpt
