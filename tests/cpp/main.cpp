// Runs the kernel tests of one engine where the CPU has its instructions. This file is compiled for
// the baseline, so that nothing runs before that is known. With an argument: the matrix kernels
// alone.
#include <cstdio>

#include "../../cpp/registry.h"

int run_tests(bool matrices_alone);

int main(int count, char**) {
  constexpr int kSkipped = 77;  // what ctest is told to read as skipped
  for (const microgpt::EngineRecord& record : microgpt::engines())
    if (record.name == PYMICROGPT_ENGINE && !record.available) {
      std::printf("skipped: %s\n", record.reason.c_str());
      return kSkipped;
    }
  return run_tests(count > 1);
}
