#include "trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace microgpt {
namespace {

void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

void check(const Config& config, const Documents& documents) {
  const int64_t* offsets = documents.offsets;
  const int64_t count = documents.count;
  require(count >= 1, "there are no documents");
  require(offsets[0] == 0, "offsets must begin with 0");
  // Messages are made only where they are needed: there may be millions of tokens.
  for (int64_t d = 0; d < count; ++d)
    if (offsets[d] < 0 || offsets[d + 1] > offsets[count] || offsets[d + 1] - offsets[d] < 2)
      require(false, "document " + std::to_string(d) + " must hold at least two tokens");
  for (int64_t i = 0; i < offsets[count]; ++i)
    if (documents.tokens[i] < 0 || documents.tokens[i] >= config.vocab_size)
      require(false,
              "token " + std::to_string(i) + " is " + std::to_string(documents.tokens[i]) +
                  ", outside 0 .. vocab_size - 1 = " + std::to_string(config.vocab_size - 1));
}

}  // namespace

void check(const Config& c) {
  require(c.n_layer >= 1, "n_layer must be at least 1");
  require(c.n_embd >= 1, "n_embd must be at least 1");
  require(c.n_head >= 1 && c.n_embd % c.n_head == 0, "n_embd (" + std::to_string(c.n_embd) +
                                                         ") must be divisible by n_head (" +
                                                         std::to_string(c.n_head) + ")");
  require(c.block_size >= 1, "block_size must be at least 1");
  require(c.vocab_size >= 2, "vocab_size must be at least 2: one character and BOS");
}

Powers::Powers(double base) : base_(base) {
  for (int64_t t = 0; t < kCount; ++t) low_[t] = std::pow(base, static_cast<double>(t));
}

double Powers::operator()(int64_t t) {
  if (t / kCount != block_) {
    block_ = t / kCount;
    high_ = std::pow(base_, static_cast<double>(block_ * kCount));
  }
  return high_ * low_[t % kCount];
}

Trainer::Trainer(const std::string& engine, const Config& config, const Settings& settings,
                 const Execution& execution, const Documents& documents)
    : config_(config), settings_(settings), beta1_power_(settings.beta1),
      beta2_power_(settings.beta2), documents_(documents), record_(choose(engine)),
      rival_(rival_of(record_)) {
  check(config);
  check(config, documents);
  require(settings.batch_size >= 1, "batch_size must be at least 1");
  require(settings.num_steps >= 1, "num_steps must be at least 1");
  require(execution.threads >= 1 || execution.threads == kAutoThreads,
          "threads must be at least 1");
  Setup setup{config,         settings.batch_size, execution.prefix_sharing, execution.skip_zeros,
              settings.beta1, settings.beta2};
  setup.longest = 0;
  for (int64_t d = 0; d < documents.count; ++d)
    setup.longest = std::max(setup.longest, documents.positions(d, config.block_size));
  engine_ = make_engine(record_, setup, execution.threads);
}

Batch Trainer::next() const {
  // Below 2^64 for the 2^33 documents that 128 GiB would hold.
  const uint64_t count = static_cast<uint64_t>(documents_.count);
  const uint64_t gone = static_cast<uint64_t>(steps_done) % count;
  const uint64_t first = gone * static_cast<uint64_t>(settings_.batch_size) % count;
  return {documents_, static_cast<int64_t>(first), settings_.batch_size};
}

AdamStep Trainer::adam() {
  const double t = static_cast<double>(steps_done);
  return {settings_.learning_rate * (1.0 - t / static_cast<double>(settings_.num_steps)),
          settings_.beta1,
          settings_.beta2,
          1.0 - beta1_power_(steps_done + 1),
          1.0 - beta2_power_(steps_done + 1),
          settings_.eps};
}

double Trainer::step() {
  const double loss = engine_->step(next(), adam());
  ++steps_done;
  return loss;
}

std::vector<double> Trainer::profile(int64_t steps) {
  std::vector<uint64_t> ticks(static_cast<size_t>(Phase::count));
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < steps; ++i, ++steps_done)
    require(engine_->profile(next(), adam(), ticks.data()),
            "engine '" + record_.name + "' does not report phases; the SIMD engines do");
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
  const uint64_t all = std::accumulate(ticks.begin(), ticks.end(), uint64_t{0});
  const double total = static_cast<double>(all);
  std::vector<double> seconds(ticks.size());
  for (size_t i = 0; i < ticks.size(); ++i)
    seconds[i] = total > 0.0 ? wall.count() * static_cast<double>(ticks[i]) / total : 0.0;
  return seconds;
}

double Trainer::gradient(double* natural) {
  const double loss = engine_->gradient(next());
  engine_->read(Slot::gradient, natural);
  return loss;
}

double Trainer::loss(const Documents& documents, const std::function<void()>& pause) {
  check(config_, documents);
  const int64_t count = documents.count;
  double sum = 0.0;
  for (int64_t first = 0; first < count; first += settings_.batch_size) {
    const int size = static_cast<int>(std::min<int64_t>(settings_.batch_size, count - first));
    sum += size * engine_->loss({documents, first, size});
    pause();
  }
  return sum / static_cast<double>(count);
}

}  // namespace microgpt
