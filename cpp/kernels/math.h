// exp and log by polynomial over Vec, which has the exponent field: last_as_exponent and split.
#pragma once
#include "../config.h"

namespace microgpt {
namespace {

// Where a CPU cannot flush denormals to zero, Vec::flush_below does, at bounds below which a value
// counts for nothing (docs/derivations.md, section 8).
constexpr float kLeast = 1e-30f;        // |M|, attention's p and ds
constexpr float kLeastSquare = 1e-32f;  // W
constexpr float kLeastRoot = 1e-16f;    // |g|, before it is squared

// e^x for x <= 88 to about 1e-7 relative; below -87.7 the result is no longer a normal number and
// is flushed to zero; NaN stays NaN. e^x = 2^n 2^f with n integral and |f| <= 1/2. A sum with
// 1.5 * 2^23 has no place for fractions, and its last bits are the integer; with 127 more, they are
// the exponent of 2^n. The polynomial is the minimax one of degree 6 in relative error, 1 at f = 0;
// its own error is 2e-09.
PYMICROGPT_INLINE Vec exp(Vec x) {
  const Vec log2e = Vec::set(1.44269504f), whole = Vec::set(0x1.8p23f + 127.0f);
  x = max(Vec::set(-88.0f), x);
  const Vec sum = fma(x, log2e, whole);
  const Vec f = fma(x, log2e, whole - sum);
  Vec y = Vec::set(0.00015353362f);
  y = fma(y, f, Vec::set(0.0013398875f));
  y = fma(y, f, Vec::set(0.00961843692f));
  y = fma(y, f, Vec::set(0.0555033237f));
  y = fma(y, f, Vec::set(0.240226477f));
  y = fma(y, f, Vec::set(0.693147182f));
  y = fma(y, f, Vec::set(1.0f));
  return y * last_as_exponent(sum);
}

// log x to about 1e-7 absolute for normal x > 0. x = 2^e f with f in [sqrt(1/2), sqrt(2)), and
// log f = 2 atanh(s) = 2 (s + s^3/3 + s^5/5 + ...), s = (f - 1) / (f + 1), |s| <= 0.172: the first
// term left out, 2 s^11 / 11, is 7e-10.
PYMICROGPT_INLINE Vec log(Vec x) {
  Vec e, f;
  split(x, e, f);
  const Vec s = (f - Vec::set(1.0f)) / (f + Vec::set(1.0f));
  const Vec z = s * s;
  Vec y = Vec::set(2.0f / 9.0f);
  y = fma(y, z, Vec::set(2.0f / 7.0f));
  y = fma(y, z, Vec::set(2.0f / 5.0f));
  y = fma(y, z, Vec::set(2.0f / 3.0f));
  y = fma(y, z, Vec::set(2.0f));
  y = y * s;
  y = fma(e, Vec::set(-2.12194440e-4f), y);
  return fma(e, Vec::set(0.693359375f), y) + (x - x);  // NaN and infinity become NaN, not a number
}

}  // namespace
}  // namespace microgpt
