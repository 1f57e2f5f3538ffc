// Drawing many documents at once from given parameters.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dispatch.h"

namespace microgpt {

class Generator {
 public:
  // Made to draw about that many documents, at most all at a time. Throws std::invalid_argument
  // where the engine cannot generate.
  Generator(const std::string& engine, const Config& config, int64_t documents);

  void load(const double* parameters);  // natural layout

  // Documents first .. first + count - 1 of the stream of `seed`, one after the other, each
  // followed by BOS. The same whatever `first` and `count` they are asked by. Each begins with the
  // prompt, of at most `most` tokens; top_k and most as in Draw.
  std::vector<int32_t> generate(int64_t first, int64_t count, double temperature, uint64_t seed,
                                int top_k, const std::vector<int32_t>& prompt, int most);

  const Config& config() const { return config_; }

 private:
  Config config_;
  int batch_size_;
  std::unique_ptr<Engine> engine_;
  std::vector<int32_t> tokens_;   // (batch_size, most) of the last call
  std::vector<int32_t> scratch_;  // (4, batch_size)
};

}  // namespace microgpt
