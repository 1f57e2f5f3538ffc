// How many threads a step is shared by, and which of two tables does it, where the machine is to
// find out.
#pragma once
#include <chrono>
#include <vector>

namespace microgpt {

// The first steps are done in each way in turn, and the fastest is kept. What they compute is the
// same to the bit.
class Trial {
 public:
  // automatic: whether one thread is to be tried, too; rival: whether there is another table.
  Trial(int threads, bool automatic, bool rival) {
    for (const bool by_rival : {true, false}) {
      if (by_rival && !rival) continue;
      if (automatic && threads > 1) ways_.push_back({1, by_rival});
      ways_.push_back({threads, by_rival});
    }
    left_ = ways_.size() > 1 ? kSteps * static_cast<int>(ways_.size()) : 0;
    now_ = ways_.size() - 1;
  }

  int threads() const { return ways_[now_].threads; }  // of the next call
  bool by_rival() const { return ways_[now_].by_rival; }

  // Calls step(), which goes by threads() and by_rival(), and times it while it matters.
  template <class Step>
  double timed(Step step) {
    if (left_ == 0) return step();
    now_ = static_cast<size_t>(left_ - 1) % ways_.size();
    const auto start = Clock::now();
    const double loss = step();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (seconds < ways_[now_].best) ways_[now_].best = seconds;
    if (--left_ == 0) {
      now_ = 0;  // one that takes more must gain something
      for (size_t i = 1; i < ways_.size(); ++i)
        if (ways_[i].best < 0.95 * ways_[now_].best) now_ = i;
    }
    return loss;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int kSteps = 20;  // each way
  struct Way {
    int threads;
    bool by_rival;
    double best = 1e9;  // seconds of a step
  };

  std::vector<Way> ways_;
  int left_;
  size_t now_;
};

}  // namespace microgpt
