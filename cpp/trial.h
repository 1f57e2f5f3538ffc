// How many threads a step is shared by, where the machine is to find out.
#pragma once
#include <algorithm>
#include <chrono>

namespace microgpt {

// The first steps are done by one thread and by all in turn, and the faster way is kept. What they
// compute is the same to the bit.
class Trial {
 public:
  // automatic: whether there is anything to find out.
  Trial(int threads, bool automatic)
      : all_(threads), threads_(threads), left_(automatic && threads > 1 ? kSteps : 0) {}

  int threads() const { return threads_; }  // of the next call: 1 or all

  // Calls step(), which goes by threads(), and times it while it matters.
  template <class Step>
  double timed(Step step) {
    if (left_ == 0) return step();
    const bool all = left_ % 2 == 0;
    threads_ = all ? all_ : 1;
    const auto start = Clock::now();
    const double loss = step();
    double& best = all ? best_all_ : best_alone_;
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    if (--left_ == 0) threads_ = best_all_ < 0.95 * best_alone_ ? all_ : 1;
    return loss;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int kSteps = 40;

  const int all_;
  int threads_, left_;
  double best_alone_ = 1e9, best_all_ = 1e9;  // seconds of a step
};

}  // namespace microgpt
