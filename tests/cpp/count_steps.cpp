// What bench/guard/instructions.py counts: count_steps ENGINE N_EMBD BATCH STEPS trains that many
// steps on documents that are the same everywhere. Without arguments it names the compiler.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <vector>

#include "../../cpp/params.h"
#include "../../cpp/trainer.h"
#include "build.h"

int main(int argc, char** argv) try {
  using namespace microgpt;
  if (argc != 5) {
    std::puts(PYMICROGPT_COMPILER);
    return argc == 1 ? 0 : 2;
  }
  const Config config{1, std::atoi(argv[2]), 4, 16, 27};
  uint32_t state = 1;
  const auto random = [&](uint32_t below) {
    state = state * 1664525u + 1013904223u;
    return (state >> 16) * below >> 16;
  };

  // Names: 3 to 9 letters, low ones most often, so that some begin alike.
  std::vector<int32_t> tokens;
  std::vector<int64_t> offsets{0};
  for (int d = 0; d < 512; ++d) {
    tokens.push_back(config.vocab_size - 1);
    for (uint32_t left = 3 + random(7); left > 0; --left)
      tokens.push_back(static_cast<int32_t>(random(1 + random(26))));
    tokens.push_back(config.vocab_size - 1);
    offsets.push_back(static_cast<int64_t>(tokens.size()));
  }
  std::vector<double> parameters(static_cast<size_t>(parameter_count(config)));
  for (double& p : parameters) p = 0.16 * (random(1 << 15) / double{1 << 15} - 0.5);

  Trainer trainer(argv[1], config, {std::atoi(argv[3]), 0.01, 0.85, 0.99, 1e-8, 1000},
                  {true, true, 1}, {tokens.data(), offsets.data(), 512});
  trainer.engine().write(Slot::parameter, parameters.data());
  double loss = 0.0;
  for (int step = std::atoi(argv[4]); step > 0; --step) loss = trainer.step();
  std::printf("%.6f\n", loss);
} catch (const std::exception& error) {
  std::fprintf(stderr, "count_steps: %s\n", error.what());
  return 1;
}
