// The threads of a trainer. They wait on a flag while steps follow each other and sleep as soon as
// none has come for a moment, so that an idle trainer costs nothing.
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace microgpt {

class Team {
 public:
  // threads >= 1, the caller's own included. Throws std::system_error when they cannot be had.
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }
  // Runs work(arg, rank) for rank = 0 .. size - 1, rank 0 on the calling thread; returns when all have.
  void run(void (*work)(void* arg, int rank), void* arg);
  // Inside run: returns when every rank has come here.
  void barrier();

 private:
  void serve(int rank);
  void join();

  const int size_;
  std::vector<std::thread> threads_;
  void (*work_)(void*, int) = nullptr;
  void* arg_ = nullptr;

  alignas(64) std::atomic<unsigned> call_{0};      // counts run()s; even ends the team when stop_
  alignas(64) std::atomic<int> arrived_{0};        // at the barrier
  alignas(64) std::atomic<unsigned> crossed_{0};   // barriers so far
  std::atomic<bool> stop_{false};
  std::atomic<int> asleep_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace microgpt
