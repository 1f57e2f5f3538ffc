// Documents as one array of characters: for corpora of so many that strings of Python would take
// all the memory, and loops of Python all the time.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "compiler.h"

namespace microgpt {

// Document i is text[offsets[d] .. offsets[d + 1]), where d is order[i], or i without an order.
// Character: uint8_t, uint16_t or uint32_t, code points.
template <class Character>
struct Text {
  const Character* text;
  const int64_t* offsets;
  const uint32_t* order;  // (count,) or null
  int64_t count;

  const Character* begin(int64_t i) const { return text + offsets[at(i)]; }
  const Character* end(int64_t i) const { return text + offsets[at(i) + 1]; }

  // Before document i is looked at: those that follow in a random order are anywhere in memory.
  void prefetch(int64_t i) const {
    constexpr int64_t kAhead = 12;
    if (order == nullptr || i + 2 * kAhead >= count) return;
    PYMICROGPT_PREFETCH(offsets + order[i + 2 * kAhead]);
    PYMICROGPT_PREFETCH(text + offsets[order[i + kAhead]]);
  }

 private:
  int64_t at(int64_t i) const { return order ? order[i] : i; }
};

// The order of random.shuffle for 0 .. count - 1; state as in mersenne.h.
std::vector<uint32_t> shuffled(uint32_t* state, uint32_t count);

// Numbers (count,) of random.gauss(0, sigma); waiting is Python's gauss_next, NaN for none.
void gauss(uint32_t* state, double& waiting, double sigma, double* numbers, int64_t count);

// Tokens of all documents, BOS (the last id) at both ends of each, and their offsets (count + 1,),
// from a table of ids by code point, -1 for none. Returns the first document that has a character
// without an id, else -1. tokens: (characters + 2 count,)
template <class Character>
int64_t encode(const Text<Character>& documents, const int32_t* ids, int64_t num_ids, int32_t bos,
               int32_t* tokens, int64_t* offsets);

// Which code points occur.
template <class Character>
std::vector<bool> seen(const Text<Character>& documents);

// Documents first .. last - 1 as bytes: of each the length of its UTF-8 in eight bytes, little
// endian, and then that.
template <class Character>
std::string framed(const Text<Character>& documents, int64_t first, int64_t last);

// Which documents Corpus.split() holds out: `wanted` in the order of random.sample, but none that
// is the last to have some character.
template <class Character>
std::vector<bool> held_out(const Text<Character>& documents, uint32_t* state, int64_t wanted);

}  // namespace microgpt
