// What tests/cpp/test_emulated.py runs: train ENGINE STEPS PROBLEM... Of each problem file
// (bench/task/problem.py) it writes, as f64 on standard output: loss and gradient of the first
// batch, and the losses of so many steps.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <vector>

#include "../../cpp/params.h"
#include "../../cpp/trainer.h"

namespace microgpt {
namespace {

class File {
 public:
  explicit File(const char* path) : file_(std::fopen(path, "rb")) {
    char magic[8];
    read(magic, sizeof magic);
    if (std::memcmp(magic, "MGPTPROB", sizeof magic) != 0)
      throw std::runtime_error("not a problem file");
  }
  ~File() {
    if (file_ != nullptr) std::fclose(file_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  template <class T>
  std::vector<T> take(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    read(values.data(), values.size() * sizeof(T));
    return values;
  }

 private:
  void read(void* to, size_t bytes) {
    if (file_ == nullptr || std::fread(to, 1, bytes, file_) != bytes)
      throw std::runtime_error("a problem file cannot be read");
  }
  std::FILE* file_;
};

void write(const double* values, size_t count) {
  if (std::fwrite(values, sizeof *values, count, stdout) != count)
    throw std::runtime_error("cannot write the results");
}

void train(const char* engine, int steps, const char* path) {
  File file(path);
  const auto header = file.take<int64_t>(10);
  const auto adam = file.take<double>(4);
  const auto offsets = file.take<int64_t>(header[7] + 1);
  const auto tokens = file.take<int32_t>((header[8] + 1) / 2 * 2);
  const auto parameters = file.take<double>(header[9]);
  const auto size = [&](int i) { return static_cast<int>(header[static_cast<size_t>(i)]); };
  const Config config{size(0), size(1), size(2), size(3), size(4)};
  if (parameter_count(config) != header[9]) throw std::runtime_error("another model's parameters");

  Trainer trainer(engine, config, {size(5), adam[0], adam[1], adam[2], adam[3], header[6]},
                  {true, true, 1}, {tokens.data(), offsets.data(), header[7]});
  trainer.engine().write(Slot::parameter, parameters.data());
  std::vector<double> gradient(parameters.size());
  const double first = trainer.gradient(gradient.data());
  write(&first, 1);
  write(gradient.data(), gradient.size());
  for (int step = 0; step < steps; ++step) {
    const double loss = trainer.step();
    write(&loss, 1);
  }
}

}  // namespace
}  // namespace microgpt

int main(int argc, char** argv) try {
  for (int i = 3; i < argc; ++i) microgpt::train(argv[1], std::atoi(argv[2]), argv[i]);
} catch (const std::exception& error) {
  std::fprintf(stderr, "train: %s\n", error.what());
  return 1;
}
