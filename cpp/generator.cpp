#include "generator.h"

#include <algorithm>
#include <stdexcept>

#include "trainer.h"

namespace microgpt {
namespace {

// Documents at a time: the more, the more of their prefixes are shared. A row takes about
// 48 n_layer n_embd floats; 128 MiB of them are enough.
int64_t most_documents(const Config& config) {
  const int64_t per_row = int64_t{48} * config.n_layer * std::max(16, config.n_embd);
  return std::max<int64_t>(16, (int64_t{1} << 25) / per_row / config.block_size);
}

}  // namespace

Generator::Generator(const std::string& engine, const Config& config, int64_t documents)
    : config_(config) {
  check(config);
  const EngineRecord record = choose(engine);
  if (!record.generates)
    throw std::invalid_argument("engine '" + record.name +
                                "' does not generate; the SIMD engines do");
  batch_size_ = static_cast<int>(std::clamp<int64_t>(documents, 16, most_documents(config)));
  engine_ = make_engine(record, {config, batch_size_, true, true, 0.0, 0.0, true}, 1);
  scratch_.resize(4 * static_cast<size_t>(batch_size_));
}

void Generator::load(const double* parameters) { engine_->write(Slot::parameter, parameters); }

std::vector<int32_t> Generator::generate(int64_t first, int64_t count, double temperature,
                                         uint64_t seed, int top_k,
                                         const std::vector<int32_t>& prompt, int most) {
  std::vector<int32_t> documents;
  // At a time, so many that their tokens take 256 MiB at most.
  const int64_t at_once =
      std::clamp<int64_t>((int64_t{1} << 26) / std::max(most, 1), 1, batch_size_);
  tokens_.resize(static_cast<size_t>(std::min(at_once, count) * most));
  int32_t* lengths = scratch_.data();
  for (int64_t done = 0; done < count; done += at_once) {
    const int some = static_cast<int>(std::min(at_once, count - done));
    engine_->generate({first + done, some, temperature, seed, top_k, prompt.data(),
                       static_cast<int>(prompt.size()), most, tokens_.data(), lengths,
                       lengths + batch_size_, lengths + 2 * batch_size_,
                       lengths + 3 * batch_size_});
    for (int i = 0; i < some; ++i) {
      const int32_t* document = tokens_.data() + int64_t{i} * most;
      documents.insert(documents.end(), document, document + lengths[i]);
      documents.push_back(config_.vocab_size - 1);
    }
  }
  return documents;
}

}  // namespace microgpt
