// The engine sme beside what else happens to a thread: its mode and ZA are left as they are found,
// also while signals arrive, and when threads end; what a caller keeps in ZA stays; a training is
// that of NEON to the bit, and may go from one table to the other. Compiled with the flags of sme.
#include <signal.h>
#include <sys/time.h>

#include <cstdio>
#include <thread>

#include "../../cpp/params.h"
#include "../../cpp/registry.h"
#include "../../cpp/trainer.h"
#include "../../cpp/trial.h"
#include "check.h"

namespace microgpt {
namespace {

// Bit 0: streaming mode; bit 1: ZA is on.
uint64_t svcr() {
  uint64_t bits;
  __asm__ volatile("mrs %0, svcr" : "=r"(bits));
  return bits;
}

uint64_t bytes_of_vector() {
  uint64_t bytes;
  __asm__ volatile("rdsvl %0, #1" : "=r"(bytes));
  return bytes;
}

std::vector<double> parameters(const Config& config) {
  Random random;
  std::vector<double> values(static_cast<size_t>(parameter_count(config)));
  for (double& value : values) value = random.normal(0.3f);
  return values;
}

// Losses and, behind them, parameters and moments; each step within around(step).
template <class F>
std::vector<double> train(const std::string& engine, const Config& config, int steps, F around) {
  Random random;
  Corpus corpus = random_corpus(random, 23, config.vocab_size, config.block_size + 3);
  Trainer trainer(engine, config, {7, 0.01, 0.85, 0.99, 1e-8, 100}, {true, true, 1},
                  corpus.documents());
  trainer.engine().write(Slot::parameter, parameters(config).data());
  std::vector<double> results;
  for (int i = 0; i < steps; ++i) around([&] { results.push_back(trainer.step()); });
  std::vector<double> values(static_cast<size_t>(parameter_count(config)));
  for (const Slot slot : {Slot::parameter, Slot::first_moment, Slot::second_moment}) {
    trainer.engine().read(slot, values.data());
    results.insert(results.end(), values.begin(), values.end());
  }
  return results;
}

std::vector<double> train(const std::string& engine, const Config& config, int steps) {
  return train(engine, config, steps, [](auto step) { step(); });
}

const Config kSmall{1, 16, 4, 16, 27},
    kConfigs[] = {kSmall,          {2, 40, 4, 9, 33},  {1, 64, 4, 16, 27},
                  {2, 3, 1, 3, 3}, {3, 24, 2, 24, 40}, {1, 13, 1, 65, 5}};

void test_bits() {
  for (const Config& config : kConfigs) {
    at_case("C %d", config.n_embd);
    CHECK(train("sme", config, 6) == train("neon", config, 6));
  }
  // 45 steps: of both tables by turns, and some by the better one.
  CHECK(train("auto", kSmall, 45) == train("neon", kSmall, 45));
}

void test_mode() {
  CHECK(svcr() == 0);
  train("sme", kSmall, 2, [](auto step) {
    step();
    CHECK(svcr() == 0);
  });
}

void test_za_of_others() {
  const size_t bytes = bytes_of_vector();
  std::vector<unsigned char> mine(bytes * bytes), now(bytes * bytes);
  for (size_t i = 0; i < mine.size(); ++i) mine[i] = static_cast<unsigned char>(i * 31 + i / bytes);
  const auto kept = train("sme", kSmall, 3, [&](auto step) {
    __asm__ volatile("smstart za" : : : "memory");
    for (size_t i = 0; i < bytes; ++i)
      __asm__ volatile("mov w12, %w0\n ldr za[w12, 0], [%1]"
                       :
                       : "r"(i), "r"(&mine[i * bytes])
                       : "x12", "memory");
    step();
    CHECK(svcr() == 2);
    for (size_t i = 0; i < bytes; ++i)
      __asm__ volatile("mov w12, %w0\n str za[w12, 0], [%1]"
                       :
                       : "r"(i), "r"(&now[i * bytes])
                       : "x12", "memory");
    __asm__ volatile("smstop za" : : : "memory");
    CHECK(now == mine);
  });
  CHECK(kept == train("sme", kSmall, 3));
}

volatile sig_atomic_t signals = 0, wrong_mode = 0;
volatile float sink;

void on_signal(int) {
  signals = signals + 1;
  if (svcr() != 0) wrong_mode = 1;
  float x = 1.0f;  // registers of vectors are used here
  for (int i = 0; i < 100; ++i) x = x * 1.01f + 0.5f;
  sink = x;
}

void test_signals() {
  const auto quiet = train("sme", kConfigs[2], 8);
  struct sigaction action = {}, before;
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, &before);
  const itimerval often{{0, 500}, {0, 500}}, never{};
  setitimer(ITIMER_REAL, &often, nullptr);
  const auto disturbed = train("sme", kConfigs[2], 8);
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &before, nullptr);
  CHECK(signals > 0);
  CHECK(!wrong_mode);
  CHECK(disturbed == quiet);
  CHECK(svcr() == 0);
}

void test_threads_that_end() {
  const auto want = train("sme", kSmall, 2);
  for (int i = 0; i < 20; ++i)
    std::thread([&] {
      CHECK(svcr() == 0);
      CHECK(train("sme", kSmall, 2) == want);
      CHECK(svcr() == 0);
    }).join();
}

void test_trial() {
  for (const bool rival_is_slow : {false, true}) {
    Trial trial(1, false, true);
    int by_rival = 0, steps = 0;
    while (steps < 60) {
      trial.timed([&] {
        ++steps;
        by_rival += trial.by_rival();
        if (trial.by_rival() == rival_is_slow)
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
        return 0.0;
      });
    }
    CHECK(by_rival == (rival_is_slow ? 20 : 40));
    CHECK(trial.by_rival() == !rival_is_slow);
  }
  CHECK(choose("auto").name == "sme" && choose("auto").rival != nullptr);
  CHECK(choose("sme").rival == nullptr);
}

}  // namespace
}  // namespace microgpt

int main() {
  using namespace microgpt;
  constexpr int kSkipped = 77;  // what ctest is told to read as skipped
  for (const EngineRecord& record : engines())
    if (record.name == "sme" && !record.available) {
      std::printf("skipped: %s\n", record.reason.c_str());
      return kSkipped;
    }
  test_mode();
  test_bits();
  test_za_of_others();
  test_signals();
  test_threads_that_end();
  test_trial();
  return result();
}
