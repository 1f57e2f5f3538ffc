// AVX-512 (F, DQ, BW, VL): sixteen lanes, thirty-two registers.
#include <immintrin.h>

#include "../config.h"
#include "../denormals.h"

namespace microgpt {
namespace {

struct V {
  static constexpr int lanes = 16;
  static constexpr int accumulators = 24;  // of a register tile, of 32 registers
  static constexpr int tile_panels = 4;    // at most, side by side in one tile
  static constexpr bool compact = false;  // code may have special cases
  __m512 r;

  PYMICROGPT_INLINE static V load(const float* p) { return {_mm512_loadu_ps(p)}; }
  PYMICROGPT_INLINE static V set(float x) { return {_mm512_set1_ps(x)}; }
  PYMICROGPT_INLINE static V load_quad(const float* p) {
    return {_mm512_broadcast_f32x4(_mm_loadu_ps(p))};
  }
  // The same two floats everywhere.
  PYMICROGPT_INLINE static V load_pair(const float* p) {
    double pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return {_mm512_castpd_ps(_mm512_set1_pd(pair))};
  }
  PYMICROGPT_INLINE void store(float* p) const { _mm512_storeu_ps(p, r); }
  PYMICROGPT_INLINE void store_quad(float* p) const { _mm_storeu_ps(p, _mm512_castps512_ps128(r)); }
};

PYMICROGPT_INLINE V operator+(V a, V b) { return {_mm512_add_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V operator-(V a, V b) { return {_mm512_sub_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V operator*(V a, V b) { return {_mm512_mul_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V operator/(V a, V b) { return {_mm512_div_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V fma(V a, V b, V c) { return {_mm512_fmadd_ps(a.r, b.r, c.r)}; }
PYMICROGPT_INLINE V max(V a, V b) { return {_mm512_max_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V sqrt(V a) { return {_mm512_sqrt_ps(a.r)}; }
// 1 / a to an ulp or two: one Newton step from 14 bits. Square root and divide share one slow unit, so
// that this is a quarter faster in Adam than dividing.
PYMICROGPT_INLINE V reciprocal(V a) {
  const __m512 r = _mm512_rcp14_ps(a.r);
  return {_mm512_mul_ps(r, _mm512_fnmadd_ps(a.r, r, _mm512_set1_ps(2.0f)))};
}
PYMICROGPT_INLINE V round(V a) { return {_mm512_roundscale_ps(a.r, _MM_FROUND_TO_NEAREST_INT)}; }
PYMICROGPT_INLINE V where_greater(V a, V b, V c) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.r, b.r, _CMP_GT_OQ), c.r)};
}
PYMICROGPT_INLINE V flush_below(float, V a) { return a; }  // see FlushDenormals
PYMICROGPT_INLINE unsigned unequal(V a, V b) { return _mm512_cmp_ps_mask(a.r, b.r, _CMP_NEQ_UQ); }
PYMICROGPT_INLINE V pow2(V n) { return {_mm512_scalef_ps(_mm512_set1_ps(1.0f), n.r)}; }
PYMICROGPT_INLINE void split(V x, V& e, V& f) {
  // The mantissa in [3/4, 3/2) and the exponent that goes with it.
  f = {_mm512_getmant_ps(x.r, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src)};
  const __m512 high = _mm512_getexp_ps(x.r);
  const __m512 mantissa = _mm512_getmant_ps(x.r, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
  const __mmask16 halved = _mm512_cmp_ps_mask(mantissa, _mm512_set1_ps(1.5f), _CMP_GE_OQ);
  e = {_mm512_mask_add_ps(high, halved, high, _mm512_set1_ps(1.0f))};
}

template <int i>
PYMICROGPT_INLINE V quad(V a) {
  return {_mm512_permute_ps(a.r, i * 0x55)};
}
// The first halves of the quads of a and b, element by element in turns, and the second halves.
PYMICROGPT_INLINE V interleave_low(V a, V b) { return {_mm512_unpacklo_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V interleave_high(V a, V b) { return {_mm512_unpackhi_ps(a.r, b.r)}; }
// The sums of neighbours: where a came of interleave_low and b of interleave_high, one sum again.
PYMICROGPT_INLINE V pair_sums(V a, V b) {
  return {_mm512_add_ps(_mm512_shuffle_ps(a.r, b.r, 0x88), _mm512_shuffle_ps(a.r, b.r, 0xDD))};
}
PYMICROGPT_INLINE V quad_sum(V a) {
  const __m512 b = _mm512_add_ps(a.r, _mm512_permute_ps(a.r, 0xB1));
  return {_mm512_add_ps(b, _mm512_permute_ps(b, 0x4E))};
}
PYMICROGPT_INLINE V quad_max(V a) {
  const __m512 b = _mm512_max_ps(a.r, _mm512_permute_ps(a.r, 0xB1));
  return {_mm512_max_ps(b, _mm512_permute_ps(b, 0x4E))};
}
PYMICROGPT_INLINE V across_quads(V a) {
  const __m512 b = _mm512_add_ps(a.r, _mm512_shuffle_f32x4(a.r, a.r, 0xB1));
  return {_mm512_add_ps(b, _mm512_shuffle_f32x4(b, b, 0x4E))};
}
PYMICROGPT_INLINE V reduce4(V a, V b, V c, V d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a.r, b.r), _mm512_unpackhi_ps(a.r, b.r));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c.r, d.r), _mm512_unpackhi_ps(c.r, d.r));
  return {_mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE))};
}
PYMICROGPT_INLINE V max4(V a, V b, V c, V d) {
  const __m512 ab = _mm512_max_ps(_mm512_unpacklo_ps(a.r, b.r), _mm512_unpackhi_ps(a.r, b.r));
  const __m512 cd = _mm512_max_ps(_mm512_unpacklo_ps(c.r, d.r), _mm512_unpackhi_ps(c.r, d.r));
  return {_mm512_max_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE))};
}
PYMICROGPT_INLINE V max_across_quads(V a) {
  const __m512 b = _mm512_max_ps(a.r, _mm512_shuffle_f32x4(a.r, a.r, 0xB1));
  return {_mm512_max_ps(b, _mm512_shuffle_f32x4(b, b, 0x4E))};
}

// Quad i is the sum of the quads of t[i].
PYMICROGPT_INLINE V sum_quads(const V* t) {
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(t[0].r, t[1].r, 0x88),
                                  _mm512_shuffle_f32x4(t[0].r, t[1].r, 0xDD));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(t[2].r, t[3].r, 0x88),
                                  _mm512_shuffle_f32x4(t[2].r, t[3].r, 0xDD));
  return {_mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD))};
}

// to[16 j + i] = element j of the i-th argument.
PYMICROGPT_INLINE void store_transposed(float* to, V a, V b, V c, V d) {
  const __m512 ab0 = _mm512_unpacklo_ps(a.r, b.r), ab1 = _mm512_unpackhi_ps(a.r, b.r);
  const __m512 cd0 = _mm512_unpacklo_ps(c.r, d.r), cd1 = _mm512_unpackhi_ps(c.r, d.r);
  const __m512 column[4] = {_mm512_shuffle_ps(ab0, cd0, 0x44), _mm512_shuffle_ps(ab0, cd0, 0xEE),
                            _mm512_shuffle_ps(ab1, cd1, 0x44), _mm512_shuffle_ps(ab1, cd1, 0xEE)};
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_ps(to + 16 * i, _mm512_castps512_ps128(column[i]));
    _mm_storeu_ps(to + 16 * (4 + i), _mm512_extractf32x4_ps(column[i], 1));
    _mm_storeu_ps(to + 16 * (8 + i), _mm512_extractf32x4_ps(column[i], 2));
    _mm_storeu_ps(to + 16 * (12 + i), _mm512_extractf32x4_ps(column[i], 3));
  }
}

// Ticks of a counter of constant rate.
PYMICROGPT_INLINE uint64_t now() { return __rdtsc(); }

}  // namespace
}  // namespace microgpt

#include "../kernels/model.h"

namespace microgpt {
extern const Kernels PYMICROGPT_TABLE;
constexpr Kernels PYMICROGPT_TABLE = table();
}  // namespace microgpt
