// The training loop: the next documents -> one step of an engine, N times, no Python inside.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dispatch.h"

namespace microgpt {

struct Settings {
  int batch_size;
  double learning_rate, beta1, beta2, eps;
  int64_t num_steps;  // the learning rate falls linearly to zero over these
};

// How an engine works. Nothing here changes what it computes.
struct Execution {
  bool prefix_sharing, skip_zeros;
  int threads;
};

// Throws std::invalid_argument on a shape that no model has.
void check(const Config& config);

// base^t. Two calls of pow, 25 ns each, were half of the time between two calls of the kernels;
// here one step in 64 makes them. A power depends on t alone, so that a resumed training has the
// same.
class Powers {
 public:
  explicit Powers(double base);
  double operator()(int64_t t);

 private:
  static constexpr int64_t kCount = 64;
  double base_, low_[kCount];  // base^0, base^1 ...
  double high_ = 1.0;          // base^(kCount block_)
  int64_t block_ = 0;
};

class Trainer {
 public:
  // Documents as in config.h, which must outlive it. Throws std::invalid_argument on anything that
  // would not train.
  Trainer(const std::string& engine, const Config& config, const Settings& settings,
          const Execution& execution, const Documents& documents);

  double step();  // one more step; returns its loss
  // Time of each phase over `steps` more steps, in seconds; throws where the engine has no phases.
  std::vector<double> profile(int64_t steps);
  double gradient(double* natural);  // of the next batch; nothing moves
  // Of these documents. pause is called between batches.
  double loss(const Documents& documents, const std::function<void()>& pause);

  int64_t steps_done = 0;

  Engine& engine() { return *engine_; }
  // Of who does the steps: where there is a trial, this is known after the first ones.
  const EngineRecord& record() const { return engine_->by_rival() ? rival_ : record_; }
  const Config& config() const { return config_; }
  const Settings& settings() const { return settings_; }

 private:
  Batch next() const;
  AdamStep adam();

  Config config_;
  Settings settings_;
  Powers beta1_power_, beta2_power_;
  Documents documents_;
  EngineRecord record_, rival_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace microgpt
