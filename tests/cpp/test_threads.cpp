// Trainers on several threads each, several of them at once, beside a generator: every bit is as
// alone. Short, since ThreadSanitizer is who has most to say about it (make tsan). Run as:
// test_threads [few], for emulators, where threads that wait for one another take minutes.
#include <chrono>
#include <string>
#include <thread>

#include "../../cpp/generator.h"
#include "../../cpp/params.h"
#include "../../cpp/trainer.h"
#include "check.h"

namespace microgpt {
namespace {

constexpr int kSteps = 60;  // the automatic choice of threads takes 40
const Config kConfigs[] = { // n_layer, n_embd, n_head, block_size, vocab_size
                           {1, 16, 4, 16, 27},
                           {2, 24, 3, 5, 17},
                           {2, 3, 1, 3, 3},
                           {2, 32, 2, 64, 9}};

std::vector<double> parameters(const Config& config) {
  Random random;
  std::vector<double> values(static_cast<size_t>(parameter_count(config)));
  for (double& value : values) value = random.normal(0.1f);
  return values;
}

// Losses and, behind them, parameters.
std::vector<double> train(const std::string& engine, const Config& config, int threads) {
  Random random;
  Corpus corpus = random_corpus(random, 23, config.vocab_size, config.block_size + 3);
  Trainer trainer(engine, config, {7, 0.01, 0.85, 0.99, 1e-8, kSteps}, {true, true, threads},
                  corpus.documents());
  trainer.engine().write(Slot::parameter, parameters(config).data());
  std::vector<double> results;
  for (int step = 0; step < kSteps; ++step) {
    if (step == kSteps / 2)  // long enough for its threads to fall asleep
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    results.push_back(trainer.step());
  }
  results.push_back(trainer.loss(corpus.documents(), [] {}));
  std::vector<double> values(static_cast<size_t>(parameter_count(config)));
  for (const Slot slot : {Slot::parameter, Slot::first_moment}) {
    trainer.engine().read(slot, values.data());
    results.insert(results.end(), values.begin(), values.end());
  }
  return results;
}

std::vector<int32_t> generate(const std::string& engine, const Config& config) {
  Generator generator(engine, config, 50);
  generator.load(parameters(config).data());
  return generator.generate(0, 120, 0.7, 5, 0, {}, config.block_size);
}

void test_at_once(const std::string& engine, bool few) {
  for (const Config& config : kConfigs) {
    if (few && config.n_layer * config.n_embd > 16) continue;
    const std::vector<double> alone = train(engine, config, 1);
    const std::vector<int32_t> text = generate(engine, config);
    const int counts[] = {2, 3, kAutoThreads, 1};
    std::vector<double> results[4];
    std::vector<int32_t> texts[2];
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&, i] { results[i] = train(engine, config, counts[i]); });
    for (auto& made : texts) threads.emplace_back([&] { made = generate(engine, config); });
    for (std::thread& thread : threads) thread.join();
    at_case("%s, C %d", engine.c_str(), config.n_embd);
    for (const auto& result : results) CHECK(result == alone);
    for (const auto& made : texts) CHECK(made == text);
  }
}

}  // namespace
}  // namespace microgpt

int main(int count, char**) {
  using namespace microgpt;
  for (const EngineRecord& record : engines())
    if (record.available && record.threads) test_at_once(record.name, count > 1);
  return result();
}
