// The threads of a trainer. They wait on a flag while steps follow each other and sleep as soon as
// none has come for a moment, so that an idle trainer costs nothing.
#pragma once
#include <memory>

namespace microgpt {

class Team {
 public:
  // threads >= 1, the caller's own included. Throws std::system_error when they cannot be had.
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }
  // Runs work(arg, rank) for rank = 0 .. size - 1, rank 0 on the calling thread; returns when all
  // have.
  void run(void (*work)(void* arg, int rank), void* arg);
  // Inside run: returns when every rank has come here.
  void barrier();

 private:
  class Crew;

  void abandon_if_forked();

  const int size_;
  unsigned forks_;              // of this process when the crew was made
  std::unique_ptr<Crew> crew_;  // the other threads; null where there are none
};

}  // namespace microgpt
