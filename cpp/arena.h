// Hands out the pieces of one block of memory, or, with none, only counts their bytes: what walks
// an arena once to count and once to lay out cannot disagree with itself.
#pragma once
#include <cstddef>
#include <cstdint>

#include "compiler.h"

namespace microgpt {

constexpr size_t kLine = 64;    // bytes of a cache line, on which every piece begins
constexpr size_t kPage = 4096;  // bytes

struct Arena {
  char* block;      // aligned to a line; null: count alone
  size_t used = 0;  // bytes
  size_t gap = 0;   // bytes left free behind each piece

  // Null when only counting.
  template <class T>
  PYMICROGPT_INLINE T* take(int64_t count) {
    char* piece = block == nullptr ? nullptr : block + used;
    used += (static_cast<size_t>(count) * sizeof(T) + kLine - 1) / kLine * kLine + gap;
    return reinterpret_cast<T*>(piece);
  }
  // The same, `phase` eighths of a page into a page.
  template <class T>
  PYMICROGPT_INLINE T* take(int64_t count, int phase) {
    used += (static_cast<size_t>(phase) * (kPage / 8) - used) % kPage;
    return take<T>(count);
  }
};

}  // namespace microgpt
