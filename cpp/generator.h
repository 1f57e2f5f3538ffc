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
  // Throws std::invalid_argument where the engine cannot generate.
  Generator(const std::string& engine, const Config& config);

  void load(const double* parameters);  // natural layout

  // Documents first .. first + count - 1 of the stream of `seed`: tokens (count, T), of which the
  // first lengths[i] of row i count. The same whatever `first` and `count` they are asked by.
  void generate(int64_t first, int64_t count, double temperature, uint64_t seed, int32_t* tokens,
                int32_t* lengths);

  const Config& config() const { return config_; }

 private:
  Config config_;
  int batch_size_;
  std::unique_ptr<Engine> engine_;
  std::vector<int32_t> scratch_;  // (3, batch_size)
};

}  // namespace microgpt
