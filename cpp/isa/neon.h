// Vec for NEON (aarch64): four lanes, thirty-two registers.
#pragma once
#include <arm_neon.h>

#include "../batch.h"
#include "../config.h"
#include "../denormals.h"
#include "../kernels/bits.h"

namespace microgpt {
namespace {

struct Vec {
  static constexpr int lanes = 4;
  static constexpr int accumulators = 24;  // of a register tile, of 32 registers
  static constexpr int tile_panels = 1;    // at most, side by side in one tile
  static constexpr bool compact = false;   // code may have special cases
  float32x4_t r;

  PYMICROGPT_INLINE static Vec load(const float* p) { return {vld1q_f32(p)}; }
  PYMICROGPT_INLINE static Vec set(float x) { return {vdupq_n_f32(x)}; }
  PYMICROGPT_INLINE static Vec load_quad(const float* p) { return {vld1q_f32(p)}; }
  // The same two floats everywhere.
  PYMICROGPT_INLINE static Vec load_pair(const float* p) {
    const float32x2_t pair = vld1_f32(p);
    return {vcombine_f32(pair, pair)};
  }
  PYMICROGPT_INLINE void store(float* p) const { vst1q_f32(p, r); }
  PYMICROGPT_INLINE void store_quad(float* p) const { vst1q_f32(p, r); }
};

PYMICROGPT_INLINE Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.r, b.r)}; }
PYMICROGPT_INLINE Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.r, b.r)}; }
PYMICROGPT_INLINE Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.r, b.r)}; }
PYMICROGPT_INLINE Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.r, b.r)}; }
PYMICROGPT_INLINE Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.r, a.r, b.r)}; }
PYMICROGPT_INLINE Vec max(Vec a, Vec b) { return {vmaxq_f32(a.r, b.r)}; }
PYMICROGPT_INLINE Vec sqrt(Vec a) { return {vsqrtq_f32(a.r)}; }
PYMICROGPT_INLINE Vec other_sqrt(Vec a) { return sqrt(a); }
PYMICROGPT_INLINE Vec reciprocal(Vec a) { return {vdivq_f32(vdupq_n_f32(1.0f), a.r)}; }
PYMICROGPT_INLINE Vec masked(uint32x4_t mask, Vec a) {
  return {vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(a.r)))};
}
PYMICROGPT_INLINE Vec where_greater(Vec a, Vec b, Vec c) { return masked(vcgtq_f32(a.r, b.r), c); }
PYMICROGPT_INLINE Vec flush_below(float, Vec a) { return a; }  // see FlushDenormals
PYMICROGPT_INLINE unsigned unequal(Vec a, Vec b) {
  constexpr uint32_t bit[4] = {1, 2, 4, 8};
  return vaddvq_u32(vbicq_u32(vld1q_u32(bit), vceqq_f32(a.r, b.r)));
}
PYMICROGPT_INLINE Vec last_as_exponent(Vec a) {
  return {vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a.r), 23))};
}
PYMICROGPT_INLINE void split(Vec x, Vec& e, Vec& f) {
  // Rounding up from 3/2 moves the carry into the exponent, so that f lies in [3/4, 3/2).
  const uint32x4_t bits = vreinterpretq_u32_f32(x.r);
  const int32x4_t field =
      vreinterpretq_s32_u32(vshrq_n_u32(vaddq_u32(bits, vdupq_n_u32(0x00400000)), 23));
  const int32x4_t exponent = vsubq_s32(field, vdupq_n_s32(127));
  e = {vcvtq_f32_s32(exponent)};
  f = {vreinterpretq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(bits), vshlq_n_s32(exponent, 23)))};
}

template <int i>
PYMICROGPT_INLINE Vec quad(Vec a) {
  return {vdupq_laneq_f32(a.r, i)};
}
// The first halves of the quads of a and b, element by element in turns, and the second halves.
PYMICROGPT_INLINE Vec interleave_low(Vec a, Vec b) { return {vzip1q_f32(a.r, b.r)}; }
PYMICROGPT_INLINE Vec interleave_high(Vec a, Vec b) { return {vzip2q_f32(a.r, b.r)}; }
// The first two of each quad of a and then of b, and the last two.
PYMICROGPT_INLINE Vec pairs_low(Vec a, Vec b) {
  return {vcombine_f32(vget_low_f32(a.r), vget_low_f32(b.r))};
}
PYMICROGPT_INLINE Vec pairs_high(Vec a, Vec b) {
  return {vcombine_f32(vget_high_f32(a.r), vget_high_f32(b.r))};
}
// The sums of neighbours: where a came of interleave_low and b of interleave_high, one sum again.
PYMICROGPT_INLINE Vec pair_sums(Vec a, Vec b) { return {vpaddq_f32(a.r, b.r)}; }
PYMICROGPT_INLINE Vec quad_sum(Vec a) {
  const float32x4_t pairs = vpaddq_f32(a.r, a.r);
  return {vpaddq_f32(pairs, pairs)};
}
PYMICROGPT_INLINE Vec quad_max(Vec a) {
  const float32x4_t pairs = vpmaxq_f32(a.r, a.r);
  return {vpmaxq_f32(pairs, pairs)};
}
PYMICROGPT_INLINE Vec across_quads(Vec a) { return a; }
PYMICROGPT_INLINE Vec max_across_quads(Vec a) { return a; }
PYMICROGPT_INLINE Vec reduce4(Vec a, Vec b, Vec c, Vec d) {
  return {vpaddq_f32(vpaddq_f32(a.r, b.r), vpaddq_f32(c.r, d.r))};
}
PYMICROGPT_INLINE Vec max4(Vec a, Vec b, Vec c, Vec d) {
  return {vpmaxq_f32(vpmaxq_f32(a.r, b.r), vpmaxq_f32(c.r, d.r))};
}

// Quad i is the sum of the quads of t[i].
PYMICROGPT_INLINE Vec sum_quads(const Vec* t) { return t[0]; }

// to[16 j + i] = element j of the i-th argument.
PYMICROGPT_INLINE void store_transposed(float* to, Vec a, Vec b, Vec c, Vec d) {
  const float32x4_t ab0 = vtrn1q_f32(a.r, b.r), ab1 = vtrn2q_f32(a.r, b.r);
  const float32x4_t cd0 = vtrn1q_f32(c.r, d.r), cd1 = vtrn2q_f32(c.r, d.r);
  vst1q_f32(to, vcombine_f32(vget_low_f32(ab0), vget_low_f32(cd0)));
  vst1q_f32(to + 16, vcombine_f32(vget_low_f32(ab1), vget_low_f32(cd1)));
  vst1q_f32(to + 32, vcombine_f32(vget_high_f32(ab0), vget_high_f32(cd0)));
  vst1q_f32(to + 48, vcombine_f32(vget_high_f32(ab1), vget_high_f32(cd1)));
}

// At to + step i, quad i of the four vectors side by side.
PYMICROGPT_INLINE void store_quads(float* to, int, const Vec* t) {
  for (int i = 0; i < 4; ++i) t[i].store(to + 4 * i);
}

using by_entry::build_prefixes;
using plain_bits::list_bits;
using plain_bits::set_bits;
using plain_bits::transpose_bits;

// Ticks of a counter of constant rate.
PYMICROGPT_INLINE uint64_t now() {
  uint64_t t;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
  return t;
}

}  // namespace
}  // namespace microgpt
