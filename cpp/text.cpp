#include "text.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "mersenne.h"

namespace microgpt {
namespace {

constexpr int64_t kCodePoints = 0x110000;

}  // namespace

std::vector<uint32_t> shuffled(uint32_t* state, uint32_t count) {
  Mersenne rng(state);
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  for (uint32_t i = count; i-- > 1;) std::swap(order[i], order[rng.below(i + 1)]);
  return order;
}

void gauss(uint32_t* state, double& waiting, double sigma, double* numbers, int64_t count) {
  Mersenne rng(state);
  Gauss draw(rng, sigma, std::isnan(waiting) ? std::nullopt : std::optional<double>(waiting));
  for (int64_t i = 0; i < count; ++i) numbers[i] = draw.next();
  waiting = draw.waiting().value_or(std::nan(""));
}

template <class Character>
int64_t encode(const Text<Character>& documents, const int32_t* ids, int64_t num_ids, int32_t bos,
               int32_t* tokens, int64_t* offsets) {
  const int32_t* const first = tokens;
  *offsets++ = 0;
  for (int64_t i = 0; i < documents.count; ++i) {
    documents.prefetch(i);
    *tokens++ = bos;
    const Character* const end = documents.end(i);
    for (const Character* c = documents.begin(i); c != end; ++c) {
      const int32_t id = *c < num_ids ? ids[*c] : -1;
      if (id < 0) return i;
      *tokens++ = id;
    }
    *tokens++ = bos;
    *offsets++ = tokens - first;
  }
  return -1;
}

template <class Character>
std::vector<bool> seen(const Text<Character>& documents) {
  std::vector<uint8_t> found(kCodePoints);  // bytes: bits would be slower to set
  for (int64_t i = 0; i < documents.count; ++i) {
    documents.prefetch(i);
    const Character* const end = documents.end(i);
    for (const Character* c = documents.begin(i); c != end; ++c) found[*c] = 1;
  }
  return {found.begin(), found.end()};
}

template <class Character>
std::string framed(const Text<Character>& documents, int64_t first, int64_t last) {
  constexpr int64_t kMost = sizeof(Character) == 1 ? 2 : 4;  // bytes of a character
  int64_t size = 0;
  for (int64_t i = first; i < last; ++i)
    size += 8 + kMost * (documents.end(i) - documents.begin(i));
  std::string bytes(static_cast<size_t>(size), '\0');
  char* to = bytes.data();
  for (int64_t i = first; i < last; ++i) {
    documents.prefetch(i);
    char* const length = to;
    to += 8;
    const Character* const end = documents.end(i);
    for (const Character* p = documents.begin(i); p != end; ++p) {
      const uint32_t c = *p;
      const auto add = [&](uint32_t byte) { *to++ = static_cast<char>(byte); };
      if (c < 0x80) {
        add(c);
      } else if (c < 0x800) {
        add(0xC0 | c >> 6), add(0x80 | (c & 0x3F));
      } else if (c < 0x10000) {
        add(0xE0 | c >> 12), add(0x80 | (c >> 6 & 0x3F)), add(0x80 | (c & 0x3F));
      } else {
        add(0xF0 | c >> 18), add(0x80 | (c >> 12 & 0x3F)), add(0x80 | (c >> 6 & 0x3F));
        add(0x80 | (c & 0x3F));
      }
    }
    const uint64_t n = static_cast<uint64_t>(to - length) - 8;
    for (int b = 0; b < 8; ++b) length[b] = static_cast<char>(n >> 8 * b & 0xFF);
  }
  bytes.resize(static_cast<size_t>(to - bytes.data()));
  return bytes;
}

template <class Character>
std::vector<bool> held_out(const Text<Character>& documents, uint32_t* state, int64_t wanted) {
  const int64_t count = documents.count;
  std::vector<int64_t> holders(kCodePoints), visited(kCodePoints, -1);
  // Calls use(c) for each character of document i, once; `mark` tells this round of calls.
  const auto each = [&](int64_t i, int64_t mark, auto use) {
    for (const Character* c = documents.begin(i); c != documents.end(i); ++c)
      if (visited[*c] != mark) {
        visited[*c] = mark;
        use(holders[*c]);
      }
  };
  for (int64_t i = 0; i < count; ++i) each(i, i, [](int64_t& n) { ++n; });

  Mersenne rng(state);
  std::vector<uint32_t> pool(static_cast<size_t>(count));
  std::iota(pool.begin(), pool.end(), 0u);
  std::vector<bool> held(static_cast<size_t>(count));
  for (int64_t left = count; left > 0 && wanted > 0; --left) {
    const uint32_t j = rng.below(static_cast<uint32_t>(left));
    const uint32_t i = std::exchange(pool[j], pool[static_cast<size_t>(left - 1)]);
    const auto is_spare = [&](Character c) { return holders[c] > 1; };
    if (!std::all_of(documents.begin(i), documents.end(i), is_spare)) continue;
    each(i, count + i, [](int64_t& n) { --n; });
    held[i] = true;
    --wanted;
  }
  return held;
}

#define PYMICROGPT_TEXT(Character)                                                            \
  template int64_t encode(const Text<Character>&, const int32_t*, int64_t, int32_t, int32_t*, \
                          int64_t*);                                                          \
  template std::vector<bool> seen(const Text<Character>&);                                    \
  template std::string framed(const Text<Character>&, int64_t, int64_t);                      \
  template std::vector<bool> held_out(const Text<Character>&, uint32_t*, int64_t);
PYMICROGPT_TEXT(uint8_t)
PYMICROGPT_TEXT(uint16_t)
PYMICROGPT_TEXT(uint32_t)

}  // namespace microgpt
