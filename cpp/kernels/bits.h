// Which of sixteen rows are set, for one unit after the other, turned into which units are, row by
// row. An instruction set that has nothing better for it takes these.
#pragma once
#include <cstdint>

#include "../compiler.h"

namespace microgpt {
namespace {
namespace plain_bits {

// Bit i of to[r * step], r < 16, is bit r of from[i], i < 64.
PYMICROGPT_INLINE void transpose_bits(const uint16_t* from, uint64_t* to, int step) {
  constexpr uint64_t low[4] = {0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f,
                               0x00ff00ff00ff00ff};
  uint64_t word[16];  // of four 16 x 16 matrices
  for (int i = 0; i < 16; ++i)
    word[i] = from[i] | uint64_t{from[i + 16]} << 16 | uint64_t{from[i + 32]} << 32 |
              uint64_t{from[i + 48]} << 48;
  PYMICROGPT_UNROLL for (int j = 0; j < 4; ++j) {
    const int width = 1 << j;
    for (int i = 0; i < 16; i += 2 * width)
      for (int k = i; k < i + width; ++k) {
        const uint64_t swap = ((word[k] >> width) ^ word[k + width]) & low[j];
        word[k + width] ^= swap;
        word[k] ^= swap << width;
      }
  }
  for (int r = 0; r < 16; ++r) to[r * step] = word[r];
}

// Bit i is whether from[i], i < 64, has one of the bits `of`.
PYMICROGPT_INLINE uint64_t set_bits(const uint16_t* from, uint16_t of) {
  uint64_t word = 0;
  for (int i = 0; i < 64; ++i) word |= uint64_t{(from[i] & of) != 0} << i;
  return word;
}

// first + 16 i for each bit i that is set in a word, ascending; where the list ends. Up to sixteen
// more entries are overwritten.
PYMICROGPT_INLINE int32_t* list_bits(int32_t* to, uint64_t word, int32_t first) {
  int32_t* const end = to + __builtin_popcountll(word);
  // In fours, so that the processor guesses right more often.
  for (; to < end; to += 4)
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
      to[i] = first + __builtin_ctzll(word | uint64_t{1} << 63) * 16;
      word &= word - 1;
    }
  return end;
}

}  // namespace plain_bits
}  // namespace
}  // namespace microgpt
