// Which engines this machine has, and how to make one by name.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine.h"

namespace microgpt {

struct EngineRecord {
  std::string name;
  bool available;
  std::string reason;  // why it cannot run here; empty when it can
  std::string isa;
  int lanes;
  std::string dtype;
  bool full;  // has threads, phases, prefix sharing and generation: the SIMD engines
};

// Every engine by name, best SIMD first; those that this build or this CPU lacks with a reason.
std::vector<EngineRecord> engines();

// The record of `name`; "auto" is the best available, or the one named by PYMICROGPT_ISA.
// Throws std::invalid_argument, naming what this CPU has, when it is unknown or cannot run here.
EngineRecord choose(const std::string& name);

// The best table of an engine that this CPU can run, or null.
const Kernels* find_kernels(const std::string& engine);

// As a number of threads: as many as the machine has, where they turn out to be faster than one.
constexpr int kAutoThreads = 0;

// Throws std::invalid_argument when the engine has no threads, std::bad_alloc when the memory cannot
// be had.
std::unique_ptr<Engine> make_engine(const EngineRecord& record, const Setup& setup, int threads);

}  // namespace microgpt
