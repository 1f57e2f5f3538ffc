// Python's random.Random, bit for bit: the stream that shuffles documents and draws parameters is
// one with Python's own, which goes on where this stops.
#pragma once
#include <cmath>
#include <cstdint>
#include <optional>

namespace microgpt {

// The Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998) in a state that belongs to the
// caller: 624 words and the index of the next, as random.getstate() has them.
class Mersenne {
 public:
  explicit Mersenne(uint32_t* state) : words_(state), index_(state[kWords]) {}
  ~Mersenne() { words_[kWords] = index_; }
  Mersenne(const Mersenne&) = delete;
  Mersenne& operator=(const Mersenne&) = delete;

  static constexpr uint32_t kWords = 624;

  uint32_t next() {
    if (index_ >= kWords) refill();
    uint32_t y = words_[index_++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9D2C5680u;
    y ^= (y << 15) & 0xEFC60000u;
    return y ^ (y >> 18);
  }

  // random(): 53 bits, in [0, 1).
  double uniform() {
    const uint32_t a = next() >> 5, b = next() >> 6;
    return (a * 67108864.0 + b) * (1.0 / 9007199254740992.0);
  }

  // _randbelow(n) for 1 <= n < 2^32.
  uint32_t below(uint32_t n) {
    int bits = 0;
    while (bits < 32 && n >> bits != 0) ++bits;
    uint32_t r;
    do r = next() >> (32 - bits);
    while (r >= n);
    return r;
  }

 private:
  void refill() {
    constexpr uint32_t kShift = 397;
    const auto twist = [](uint32_t upper, uint32_t lower) {
      const uint32_t y = (upper & 0x80000000u) | (lower & 0x7FFFFFFFu);
      return (y >> 1) ^ (y & 1 ? 0x9908B0DFu : 0u);
    };
    for (uint32_t i = 0; i < kWords; ++i)
      words_[i] = words_[(i + kShift) % kWords] ^ twist(words_[i], words_[(i + 1) % kWords]);
    index_ = 0;
  }

  uint32_t* words_;
  uint32_t index_;
};

// gauss(0, sigma): two numbers at a time, of which the second waits for the next call.
class Gauss {
 public:
  Gauss(Mersenne& rng, double sigma, std::optional<double> waiting)
      : rng_(rng), sigma_(sigma), waiting_(waiting) {}

  double next() {
    double z;
    if (waiting_) {
      z = *waiting_;
      waiting_.reset();
    } else {
      // Through pointers that the compiler cannot see through: merged into one sincos they might
      // round differently from Python's two calls of the C library.
      const double angle = rng_.uniform() * 6.283185307179586;
      const double radius = std::sqrt(-2.0 * log_(1.0 - rng_.uniform()));
      z = cos_(angle) * radius;
      waiting_ = sin_(angle) * radius;
    }
    return 0.0 + z * sigma_;
  }

  std::optional<double> waiting() const { return waiting_; }

 private:
  using Function = double (*)(double);
  static inline volatile Function sin_ = std::sin, cos_ = std::cos, log_ = std::log;

  Mersenne& rng_;
  double sigma_;
  std::optional<double> waiting_;
};

}  // namespace microgpt
