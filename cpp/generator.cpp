#include "generator.h"

#include <algorithm>
#include <stdexcept>

#include "trainer.h"

namespace microgpt {
namespace {

// Documents at a time: enough to share prefixes, few enough for their rows to stay in the cache.
int batch_size_for(const Config& config) {
  const int rows = 1 << 20 >> (config.n_embd >= 64 ? 8 : 6);
  return std::max(16, rows / config.block_size);
}

}  // namespace

Generator::Generator(const std::string& engine, const Config& config)
    : config_(config), batch_size_(batch_size_for(config)) {
  check(config);
  const EngineRecord record = choose(engine);
  if (!record.full)
    throw std::invalid_argument("engine '" + record.name +
                                "' does not generate; the SIMD engines do");
  engine_ = make_engine(record, {config, batch_size_, true, 0.0, 0.0}, 1);
  scratch_.resize(3 * static_cast<size_t>(batch_size_));
}

void Generator::load(const double* parameters) { engine_->write(Slot::parameter, parameters); }

void Generator::generate(int64_t first, int64_t count, double temperature, uint64_t seed,
                         int32_t* tokens, int32_t* lengths) {
  int32_t* scratch = scratch_.data();
  for (int64_t done = 0; done < count; done += batch_size_) {
    const int some = static_cast<int>(std::min<int64_t>(batch_size_, count - done));
    engine_->generate({first + done, some, temperature, seed, tokens + done * config_.block_size,
                       lengths + done, scratch, scratch + batch_size_,
                       scratch + 2 * batch_size_});
  }
}

}  // namespace microgpt
