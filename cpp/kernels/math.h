// exp and log by polynomial over V, which supplies the exponent field: pow2 and split.
#pragma once
#include "../config.h"

namespace microgpt {
namespace {

// Where a CPU cannot flush denormals to zero, V::flush_below does, at bounds below which a value counts
// for nothing (docs/derivations.md, section 8).
constexpr float kLeast = 1e-30f;        // |M|, attention's p and ds
constexpr float kLeastSquare = 1e-32f;  // W
constexpr float kLeastRoot = 1e-16f;    // |g|, before it is squared

// e^x for x <= 88 to about 1e-7 relative; below -87.7 the result is no longer a normal number and is
// flushed to zero; NaN stays NaN. e^x = 2^n 2^f with n integral and |f| <= 1/2. The polynomial is
// the minimax one of degree 6 in relative error, 1 at f = 0; its own error is 2e-09.
PYMICROGPT_INLINE V exp(V x) {
  const V log2e = V::set(1.44269504f);
  x = max(V::set(-88.0f), x);
  const V n = round(x * log2e);
  const V f = fma(x, log2e, V::set(0.0f) - n);
  V y = V::set(0.00015353362f);
  y = fma(y, f, V::set(0.0013398875f));
  y = fma(y, f, V::set(0.00961843692f));
  y = fma(y, f, V::set(0.0555033237f));
  y = fma(y, f, V::set(0.240226477f));
  y = fma(y, f, V::set(0.693147182f));
  y = fma(y, f, V::set(1.0f));
  return y * pow2(n);
}

// log x to about 1e-7 absolute for normal x > 0. x = 2^e f with f in [sqrt(1/2), sqrt(2)), and
// log f = 2 atanh(s) = 2 (s + s^3/3 + s^5/5 + ...), s = (f - 1) / (f + 1), |s| <= 0.172: the first
// term left out, 2 s^11 / 11, is 7e-10.
PYMICROGPT_INLINE V log(V x) {
  V e, f;
  split(x, e, f);
  const V s = (f - V::set(1.0f)) / (f + V::set(1.0f));
  const V z = s * s;
  V y = V::set(2.0f / 9.0f);
  y = fma(y, z, V::set(2.0f / 7.0f));
  y = fma(y, z, V::set(2.0f / 5.0f));
  y = fma(y, z, V::set(2.0f / 3.0f));
  y = fma(y, z, V::set(2.0f));
  y = y * s;
  y = fma(e, V::set(-2.12194440e-4f), y);
  return fma(e, V::set(0.693359375f), y) + (x - x);  // NaN and infinity become NaN, not a number
}

}  // namespace
}  // namespace microgpt
