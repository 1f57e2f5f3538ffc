#include "team.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if __has_include(<unistd.h>)
#include <pthread.h>
#endif

#include "compiler.h"

namespace microgpt {
namespace {

// How often this process and those it came from were made by fork(): only the thread that called it
// is there afterwards, whatever the memory says of others.
std::atomic<unsigned> forks{0};
#if __has_include(<unistd.h>)
[[maybe_unused]] const int counting = pthread_atfork(nullptr, nullptr, [] { ++forks; });
#endif

// Spins until done(), at first politely, then giving the core away: with more threads than cores
// the one that is waited for needs it. False if it has not come within `turns` (0: no limit).
template <class Done>
bool spin(Done done, unsigned turns) {
  for (unsigned i = 0; turns == 0 || i < turns; ++i) {
    if (done()) return true;
    if (i % 1024 == 1023) std::this_thread::yield();
    PYMICROGPT_PAUSE();
  }
  return done();
}

constexpr unsigned kTurnsBeforeSleep = 4000;  // some 50 to 150 microseconds

}  // namespace

class Team::Crew {
 public:
  explicit Crew(int size) : size_(size) {
    try {
      for (int rank = 1; rank < size_; ++rank) threads_.emplace_back([this, rank] { serve(rank); });
    } catch (...) {
      join();
      throw;
    }
  }
  ~Crew() { join(); }

  void run(void (*work)(void*, int), void* arg) {
    work_ = work;
    arg_ = arg;
    call_.fetch_add(1);
    if (asleep_.load() > 0) {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
      }  // nobody is between looking and sleeping
      wake_.notify_all();
    }
    work(arg, 0);
    barrier();
  }

  void barrier() {
    const unsigned before = crossed_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      crossed_.store(before + 1, std::memory_order_release);
    } else {
      spin([&] { return crossed_.load(std::memory_order_acquire) != before; }, 0);
    }
  }

 private:
  void serve(int rank) {
    for (unsigned seen = 0;;) {
      const auto called = [&] { return call_.load(std::memory_order_acquire) != seen; };
      if (!spin(called, kTurnsBeforeSleep)) {
        std::unique_lock<std::mutex> lock(mutex_);
        ++asleep_;
        wake_.wait(lock, called);
        --asleep_;
      }
      ++seen;
      if (stop_) return;
      work_(arg_, rank);
      barrier();
    }
  }

  void join() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
      ++call_;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  const int size_;
  std::vector<std::thread> threads_;
  void (*work_)(void*, int) = nullptr;
  void* arg_ = nullptr;

  alignas(64) std::atomic<unsigned> call_{0};     // counts run()s, and the end as one more
  alignas(64) std::atomic<int> arrived_{0};       // at the barrier
  alignas(64) std::atomic<unsigned> crossed_{0};  // barriers so far
  std::atomic<bool> stop_{false};
  std::atomic<int> asleep_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

Team::Team(int threads)
    : size_(threads), forks_(forks), crew_(threads > 1 ? new Crew(threads) : nullptr) {}

Team::~Team() { abandon_if_forked(); }

// Threads that are gone cannot be joined, and who sleeps on a condition variable is never woken:
// the crew's memory is given up.
void Team::abandon_if_forked() {
  if (forks_ != forks) static_cast<void>(crew_.release());
}

void Team::run(void (*work)(void*, int), void* arg) {
  if (size_ == 1) return work(arg, 0);
  abandon_if_forked();
  if (crew_ == nullptr) {
    crew_ = std::make_unique<Crew>(size_);
    forks_ = forks;
  }
  crew_->run(work, arg);
}

void Team::barrier() {
  if (size_ > 1) crew_->barrier();
}

}  // namespace microgpt
