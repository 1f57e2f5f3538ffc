// What one core of this machine can do at most, measured.
#pragma once
#include <string>

namespace microgpt {

struct Peak {
  double fma_flops;  // f32 multiply-adds, counted as two, per second
  double l1_bytes;   // read per second from 16 KiB
  double l2_bytes;   // read per second from 256 KiB
};

// With the vectors of an engine's ISA; each the best of `runs` runs of about a millisecond.
// Throws std::invalid_argument where the engine cannot run here or has no vectors of its own.
Peak measure_peak(const std::string& engine, int runs);

// The first of these alone.
double measure_fma(const std::string& engine, int runs);

// Cycles per second at this moment: additions of which each needs the one before, one a cycle on
// every CPU that we know; the best of `runs` runs of about a millisecond. 0 with a compiler that
// cannot be kept from doing them at once.
double measure_clock(int runs);

}  // namespace microgpt
