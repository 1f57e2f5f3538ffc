// What the C++ tests share: checks with bounds that the reference computes along with its values,
// memory between guards, and corpora.
//
// Everything is in an anonymous namespace: the tests of an ISA are compiled with its flags.
#pragma once
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "../../cpp/batch.h"
#include "../../cpp/config.h"

namespace microgpt {
namespace {

// ---- Checks -----------------------------------------------------------------------------------

char context[256];  // the case at hand, for messages
int failures = 0;

[[gnu::format(printf, 1, 2)]] inline void at_case(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(context, sizeof context, format, arguments);
  va_end(arguments);
}

inline bool check(bool holds, const char* what) {
  if (holds) return true;
  if (++failures <= 20) std::printf("FAILED %s [%s]\n", what, context);
  return false;
}
#define CHECK(condition) check(condition, #condition)

// The largest error seen since the last report, as a fraction of its bound.
double worst = 0;

inline void report(const char* what) {
  if (worst > 0) std::printf("%-24s worst error %.3f of its bound\n", what, worst);
  worst = 0;
}

inline int result() {
  if (failures > 0) std::printf("%d checks failed\n", failures);
  return failures > 0;
}

// ---- Running error analysis -------------------------------------------------------------------
//
// A reference is written in Approx: its value in f64, and a bound on how far f32 may be from it,
// whatever order sums are taken in and with or without FMA. So every tolerance below is
// operation count x eps x magnitude, counted by the machine.

constexpr double kUnit = 1.0 / (1 << 24);  // f32 rounds to within this, relative

// What exp, log, reciprocal and other_sqrt of the kernels promise; test_kernels.cpp checks it. All
// but log are relative. exp(x) multiplies x by log2(e) in f32, which is off by 1.3e-8 in e^x.
inline double exp_error(double x) { return 1.2e-7 + 1.4e-8 * std::fabs(x); }
inline double log_error(double x) { return 1.2e-7 * std::fmax(1, std::fabs(std::log(x))); }
constexpr double kReciprocalError = 4.5 * kUnit;
constexpr double kRootError = 2 * kUnit;  // from 2^-112 on

struct Approx {
  double value = 0, error = 0;

  Approx() = default;
  Approx(double v, double e = 0) : value(v), error(e) {}
  static Approx rounded(double v, double e) { return {v, e + kUnit * (std::fabs(v) + e)}; }
};

inline Approx operator+(Approx a, Approx b) {
  return Approx::rounded(a.value + b.value, a.error + b.error);
}
inline Approx operator-(Approx a, Approx b) {
  return Approx::rounded(a.value - b.value, a.error + b.error);
}
inline Approx operator*(Approx a, Approx b) {
  return Approx::rounded(a.value * b.value, std::fabs(a.value) * b.error +
                                                std::fabs(b.value) * a.error + a.error * b.error);
}
inline Approx operator/(Approx a, Approx b) {
  const double q = a.value / b.value, least = std::fabs(b.value) - b.error;
  return Approx::rounded(q, least > 0 ? (a.error + std::fabs(q) * b.error) / least : INFINITY);
}
inline Approx sqrt(Approx a) {
  const double root = std::sqrt(a.value);
  return Approx::rounded(root, root - std::sqrt(std::fmax(0.0, a.value - a.error)));
}
inline Approx other_sqrt(Approx a) {
  const Approx r = sqrt(a);
  return {r.value, r.error + kRootError * r.value};
}
inline Approx exp(Approx a) {
  const double e = std::exp(a.value);
  return {e, e * (std::expm1(a.error) + exp_error(a.value) * std::exp(a.error))};
}
inline Approx log(Approx a) {
  return {std::log(a.value), a.error / (a.value - a.error) + log_error(a.value)};
}
inline Approx reciprocal(Approx a) {
  const Approx r = Approx(1) / a;
  return {r.value, r.error + kReciprocalError * std::fabs(r.value)};
}
inline Approx relu(Approx a) { return {std::fmax(a.value, 0.0), a.error}; }

// A sum of n terms in any order is off by n roundings of at most the sum of magnitudes.
class Total {
 public:
  void add(Approx a) {
    value_ += a.value;
    magnitude_ += std::fabs(a.value) + a.error;
    error_ += a.error;
    ++count_;
  }
  operator Approx() const { return {value_, error_ + count_ * kUnit * magnitude_}; }

 private:
  double value_ = 0, magnitude_ = 0, error_ = 0;
  int count_ = 0;
};

// Results below the normal range may be flushed.
inline void near(float got, Approx want, const char* what) {
  const double error = std::fabs(got - want.value), bound = want.error + 2e-38;
  if (std::isfinite(bound)) worst = std::fmax(worst, error / bound);
  if (!check(error <= bound, what) && failures <= 20)
    std::printf("  got %.9g, want %.9g within %.3g\n", static_cast<double>(got), want.value, bound);
}

inline bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// ---- Memory -----------------------------------------------------------------------------------

inline float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// A NaN for memory to be written: where it still stands, nothing was. What may be read, but must
// not count, holds another one, since what is computed from a NaN is often that very NaN.
inline float poison() { return from_bits(0x7fc0dead); }
inline float input_poison() { return from_bits(0x7fc0beef); }
inline bool is_poison(float x) { return same_bits(x, poison()); }

// Floats on a cache line, poisoned, between guards.
class Block {
 public:
  explicit Block(int64_t count) : count_(count), all_(count + 2 * kGuard + 16, poison()) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(all_.data() + kGuard);
    first_ = kGuard + (64 - at % 64) % 64 / sizeof(float);
  }
  float* data() { return all_.data() + first_; }
  float& operator[](int64_t i) { return data()[i]; }
  int64_t size() const { return count_; }

  // Nothing was written outside [0, written).
  bool intact_beyond(int64_t written) {
    for (int64_t i = 0; i < static_cast<int64_t>(all_.size()); ++i)
      if ((i < first_ || i >= first_ + written) && !is_poison(all_[i])) return false;
    return true;
  }
  bool intact() { return intact_beyond(count_); }

 private:
  static constexpr int64_t kGuard = 64;
  int64_t count_, first_;
  std::vector<float> all_;
};

struct Random {  // a linear congruential generator: the same numbers everywhere
  uint64_t state = 1;
  uint32_t bits() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>(state >> 32);
  }
  int below(int n) { return static_cast<int>(bits() % static_cast<uint32_t>(n)); }
  float uniform(float low, float high) {  // 24 bits
    return low + (high - low) * (static_cast<float>(bits() >> 8) / 16777216.0f);
  }
  float normal(float deviation) {  // the sum of twelve uniforms, nearly
    float sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform(0, 1);
    return deviation * sum;
  }
};

// ---- Corpora ----------------------------------------------------------------------------------

struct Corpus {
  std::vector<int32_t> tokens;
  std::vector<int64_t> offsets{0};

  void add(const std::vector<int32_t>& document) {
    tokens.insert(tokens.end(), document.begin(), document.end());
    offsets.push_back(static_cast<int64_t>(tokens.size()));
  }
  int64_t count() const { return static_cast<int64_t>(offsets.size()) - 1; }
  Documents documents() const { return {tokens.data(), offsets.data(), count()}; }
  Batch batch(int64_t first, int size) const { return {documents(), first, size}; }
};

// Documents of 1 .. longest characters between BOS; half of all characters are one of two, so that
// prefixes are shared.
inline Corpus random_corpus(Random& random, int count, int vocab_size, int longest) {
  Corpus corpus;
  const int32_t bos = vocab_size - 1;
  for (int d = 0; d < count; ++d) {
    std::vector<int32_t> document{bos};
    for (int n = 1 + random.below(longest); n > 0; --n)
      document.push_back(random.below(random.below(2) && bos > 2 ? 2 : bos));
    document.push_back(bos);
    corpus.add(document);
  }
  return corpus;
}

// A PrefixBuilder with its memory.
class Builder {
 public:
  Builder(const Config& config, int batch_size, bool share, int by_level = 1 << 30) {
    Arena counting{nullptr};
    builder.create(counting, config, batch_size, share, by_level);
    memory_.resize(counting.used / kLine);
    Arena arena{memory_.data()->bytes};
    builder.create(arena, config, batch_size, share, by_level);
  }
  const Prefixes& build(const Batch& batch) {
    builder.build(batch);
    return builder.prefixes();
  }
  PrefixBuilder builder;

 private:
  struct alignas(kLine) Line {
    char bytes[kLine] = {};
  };
  std::vector<Line> memory_;
};

}  // namespace
}  // namespace microgpt
