// Which engines there are, and what each can do.
#pragma once
#include <string>
#include <vector>

#include "engine.h"

namespace microgpt {

struct EngineRecord {
  std::string name;
  std::string label;   // what reports call it
  bool available;      // part of this build and supported
  bool supported;      // this CPU has what it takes, and so has the compiler; built or not
  std::string reason;  // why it is not available; empty when it is
  std::string arch;    // x86_64 or aarch64; empty: any
  std::string isa;
  int lanes;  // 0 where it is not part of this build
  std::string dtype;
  bool simd;  // written over vectors; all that follows goes with it
  bool prefix_sharing, skip_zeros, threads, generates, phases;
  const Kernels* kernels;  // null for the tapes, and where it is not available
  // Of the same layout and the same bits: for a trial whether it is faster. Or null.
  const Kernels* rival;
};

// Every engine by name, best first; those that this build or this CPU lacks with a reason.
std::vector<EngineRecord> engines();

// The record of `name`, without a rival; "auto" is the best available, or the one named by
// PYMICROGPT_ISA.
// Throws std::invalid_argument, naming what this CPU has, when it is unknown or cannot run here.
EngineRecord choose(const std::string& name);

// The record of its rival, or itself where there is none.
EngineRecord rival_of(const EngineRecord& record);

}  // namespace microgpt
