#include "team.h"

namespace microgpt {
namespace {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
  __asm__ volatile("yield");
#endif
}

// Spins until done(), at first politely, then giving the core away: with more threads than cores
// the one that is waited for needs it. False if it has not come within `turns` (0: no limit).
template <class Done>
bool spin(Done done, unsigned turns) {
  for (unsigned i = 0; turns == 0 || i < turns; ++i) {
    if (done()) return true;
    if (i % 1024 == 1023) std::this_thread::yield();
    pause();
  }
  return done();
}

constexpr unsigned kTurnsBeforeSleep = 4000;  // some 50 to 150 microseconds

}  // namespace

Team::Team(int threads) : size_(threads) {
  try {
    for (int rank = 1; rank < size_; ++rank) threads_.emplace_back([this, rank] { serve(rank); });
  } catch (...) {
    join();
    throw;
  }
}

Team::~Team() { join(); }

void Team::join() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    ++call_;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Team::serve(int rank) {
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

void Team::run(void (*work)(void*, int), void* arg) {
  work_ = work;
  arg_ = arg;
  if (size_ > 1) {
    call_.fetch_add(1);
    if (asleep_.load() > 0) {
      { const std::lock_guard<std::mutex> lock(mutex_); }  // nobody is between looking and sleeping
      wake_.notify_all();
    }
  }
  work(arg, 0);
  if (size_ > 1) barrier();
}

void Team::barrier() {
  if (size_ == 1) return;
  const unsigned before = crossed_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    crossed_.store(before + 1, std::memory_order_release);
  } else {
    spin([&] { return crossed_.load(std::memory_order_acquire) != before; }, 0);
  }
}

}  // namespace microgpt
