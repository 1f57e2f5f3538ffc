// Adam's first moments of hidden units that have fallen silent become denormal, and a denormal
// costs an operation tens or hundreds of times its time.
#pragma once
#include <cstdint>

#include "compiler.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace microgpt {

// Flushes denormal numbers to zero while it lives, in this thread alone.
class FlushDenormals {
#if defined(__x86_64__) || defined(_M_X64)
 public:
  PYMICROGPT_INLINE FlushDenormals() { _mm_setcsr(saved_ | 0x8040); }  // results, and operands
  PYMICROGPT_INLINE ~FlushDenormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_ = _mm_getcsr();
#elif defined(__aarch64__)
 public:
  PYMICROGPT_INLINE FlushDenormals() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved_ | (uint64_t{1} << 24)));
  }
  PYMICROGPT_INLINE ~FlushDenormals() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#else
 public:
  PYMICROGPT_INLINE FlushDenormals() {}
  PYMICROGPT_INLINE ~FlushDenormals() {}  // not trivial, so that nobody warns of an unused one
#endif
};

}  // namespace microgpt
