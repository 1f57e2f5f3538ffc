// Engines: how one is made.
#pragma once
#include <memory>

#include "registry.h"

namespace microgpt {

// As a number of threads: as many as the machine has, where they turn out to be faster than one.
constexpr int kAutoThreads = 0;

// Throws std::invalid_argument when the engine has no threads, std::bad_alloc when the memory
// cannot be had.
std::unique_ptr<Engine> make_engine(const EngineRecord& record, const Setup& setup, int threads);

}  // namespace microgpt
