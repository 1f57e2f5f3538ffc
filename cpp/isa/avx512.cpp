// AVX-512 (F, CD, DQ, BW, VL): sixteen lanes, thirty-two registers.
#include <immintrin.h>

#include "../config.h"
#include "../denormals.h"
#include "lanes.h"

namespace microgpt {
namespace {

using Register = __m512;

// As the bits of one number.
PYMICROGPT_INLINE double two_floats(const float* p) {
  double pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return pair;
}

// Eight lanes, for what becomes of the sums of eight rows.
struct EightLanes {
  static constexpr int lanes = 8;
  __m256 r;

  PYMICROGPT_INLINE static EightLanes load(const float* p) { return {_mm256_loadu_ps(p)}; }
  PYMICROGPT_INLINE static EightLanes set(float x) { return {_mm256_set1_ps(x)}; }
  PYMICROGPT_INLINE void store(float* p) const { _mm256_storeu_ps(p, r); }
};
PYMICROGPT_INLINE EightLanes max(EightLanes a, EightLanes b) { return {_mm256_max_ps(a.r, b.r)}; }
PYMICROGPT_INLINE EightLanes where_greater(EightLanes a, EightLanes b, EightLanes c) {
  return {_mm256_and_ps(_mm256_cmp_ps(a.r, b.r, _CMP_GT_OQ), c.r)};
}
PYMICROGPT_INLINE unsigned unequal(EightLanes a, EightLanes b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.r, b.r, _CMP_NEQ_UQ)));
}

struct Vec {
  using Half = EightLanes;
  static constexpr int lanes = 16;
  static constexpr int accumulators = 24;  // of a register tile, of 32 registers
  static constexpr int tile_panels = 4;    // at most, side by side in one tile
  static constexpr bool compact = false;   // code may have special cases
  Register r;

  PYMICROGPT_INLINE static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  PYMICROGPT_INLINE static Vec set(float x) { return {_mm512_set1_ps(x)}; }
  PYMICROGPT_INLINE static Vec load_quad(const float* p) {
    return {_mm512_broadcast_f32x4(_mm_loadu_ps(p))};
  }
  // The same two floats everywhere.
  PYMICROGPT_INLINE static Vec load_pair(const float* p) {
    return {_mm512_castpd_ps(_mm512_set1_pd(two_floats(p)))};
  }
  PYMICROGPT_INLINE void store(float* p) const { _mm512_storeu_ps(p, r); }
  PYMICROGPT_INLINE void store_quad(float* p) const { _mm_storeu_ps(p, _mm512_castps512_ps128(r)); }
};

}  // namespace
}  // namespace microgpt

#define MM(name) _mm512_##name
#include "x86.h"

namespace microgpt {
namespace {

// Of the two halves of a: eight rows by pairs of k.
PYMICROGPT_INLINE EightLanes pair_sums(Vec a) {
  const __m256 low = _mm512_castps512_ps256(a.r), high = _mm512_extractf32x8_ps(a.r, 1);
  return {_mm256_add_ps(_mm256_shuffle_ps(low, high, 0x88), _mm256_shuffle_ps(low, high, 0xDD))};
}

// 1 / a to an ulp or two: one Newton step from 14 bits. Square root and divide share one slow unit,
// so that this is a quarter faster in Adam than dividing.
PYMICROGPT_INLINE Vec reciprocal(Vec a) {
  const Register r = _mm512_rcp14_ps(a.r);
  return {_mm512_mul_ps(r, _mm512_fnmadd_ps(a.r, r, _mm512_set1_ps(2.0f)))};
}
// The root by multiply-adds, where two of them start in a cycle: one Newton step from 14 bits, to
// an ulp, and from 2^-112 down, which Adam's eps hides, to 14 bits.
PYMICROGPT_INLINE Vec other_sqrt(Vec a) {
#ifdef PYMICROGPT_TWICE
  const Register inverse = _mm512_rsqrt14_ps(_mm512_max_ps(_mm512_set1_ps(0x1p-126f), a.r));
  const Register root = _mm512_mul_ps(a.r, inverse);
  const Register half = _mm512_mul_ps(inverse, _mm512_set1_ps(0.5f));
  return {_mm512_fmadd_ps(_mm512_fnmadd_ps(root, root, a.r), half, root)};
#else
  return sqrt(a);
#endif
}
PYMICROGPT_INLINE Vec where_greater(Vec a, Vec b, Vec c) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.r, b.r, _CMP_GT_OQ), c.r)};
}
PYMICROGPT_INLINE Vec flush_below(float, Vec a) { return a; }  // see FlushDenormals
PYMICROGPT_INLINE unsigned unequal(Vec a, Vec b) {
  return _mm512_cmp_ps_mask(a.r, b.r, _CMP_NEQ_UQ);
}
PYMICROGPT_INLINE Vec last_as_exponent(Vec a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.r), 23))};
}
PYMICROGPT_INLINE void split(Vec x, Vec& e, Vec& f) {
  // The mantissa in [3/4, 3/2) and the exponent that goes with it.
  f = {_mm512_getmant_ps(x.r, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src)};
  const Register high = _mm512_getexp_ps(x.r);
  const Register mantissa = _mm512_getmant_ps(x.r, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
  const __mmask16 halved = _mm512_cmp_ps_mask(mantissa, _mm512_set1_ps(1.5f), _CMP_GE_OQ);
  e = {_mm512_mask_add_ps(high, halved, high, _mm512_set1_ps(1.0f))};
}

PYMICROGPT_INLINE Vec across_quads(Vec a) {
  const Register b = _mm512_add_ps(a.r, _mm512_shuffle_f32x4(a.r, a.r, 0xB1));
  return {_mm512_add_ps(b, _mm512_shuffle_f32x4(b, b, 0x4E))};
}
PYMICROGPT_INLINE Vec max_across_quads(Vec a) {
  const Register b = _mm512_max_ps(a.r, _mm512_shuffle_f32x4(a.r, a.r, 0xB1));
  return {_mm512_max_ps(b, _mm512_shuffle_f32x4(b, b, 0x4E))};
}

// As plain_bits of kernels/bits.h.
PYMICROGPT_INLINE void transpose_bits(const uint16_t* from, uint64_t* to, int step) {
  const __m512i first = _mm512_loadu_si512(from), second = _mm512_loadu_si512(from + 32);
  for (int r = 0; r < 16; ++r) {
    const __m512i bit = _mm512_set1_epi16(static_cast<int16_t>(1 << r));
    to[r * step] =
        _mm512_test_epi16_mask(first, bit) | uint64_t{_mm512_test_epi16_mask(second, bit)} << 32;
  }
}
PYMICROGPT_INLINE uint64_t set_bits(const uint16_t* from, uint16_t of) {
  const __m512i bits = _mm512_set1_epi16(static_cast<int16_t>(of));
  return _mm512_test_epi16_mask(_mm512_loadu_si512(from), bits) |
         uint64_t{_mm512_test_epi16_mask(_mm512_loadu_si512(from + 32), bits)} << 32;
}
PYMICROGPT_INLINE int32_t* list_bits(int32_t* to, uint64_t word, int32_t first) {
  const __m512i sixteens =
      _mm512_setr_epi32(0, 16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240);
  for (int i = 0; i < 4; ++i, word >>= 16, first += 256) {
    const auto some = static_cast<__mmask16>(word);
    const __m512i entries = _mm512_add_epi32(_mm512_set1_epi32(first), sixteens);
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(some, entries));
    to += __builtin_popcount(some);
  }
  return to;
}

// Quad i is the sum of the quads of t[i].
PYMICROGPT_INLINE Vec sum_quads(const Vec* t) {
  const Register ab = _mm512_add_ps(_mm512_shuffle_f32x4(t[0].r, t[1].r, 0x88),
                                    _mm512_shuffle_f32x4(t[0].r, t[1].r, 0xDD));
  const Register cd = _mm512_add_ps(_mm512_shuffle_f32x4(t[2].r, t[3].r, 0x88),
                                    _mm512_shuffle_f32x4(t[2].r, t[3].r, 0xDD));
  return {_mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD))};
}

// At to + step i, quad i of the four vectors side by side.
PYMICROGPT_INLINE void store_quads(float* to, int step, const Vec* t) {
  const Register ab0 = _mm512_shuffle_f32x4(t[0].r, t[1].r, 0x44);
  const Register ab1 = _mm512_shuffle_f32x4(t[0].r, t[1].r, 0xEE);
  const Register cd0 = _mm512_shuffle_f32x4(t[2].r, t[3].r, 0x44);
  const Register cd1 = _mm512_shuffle_f32x4(t[2].r, t[3].r, 0xEE);
  _mm512_storeu_ps(to, _mm512_shuffle_f32x4(ab0, cd0, 0x88));
  _mm512_storeu_ps(to + step, _mm512_shuffle_f32x4(ab0, cd0, 0xDD));
  _mm512_storeu_ps(to + 2 * step, _mm512_shuffle_f32x4(ab1, cd1, 0x88));
  _mm512_storeu_ps(to + 3 * step, _mm512_shuffle_f32x4(ab1, cd1, 0xDD));
}

// to[16 j + i] = element j of the i-th argument.
PYMICROGPT_INLINE void store_transposed(float* to, Vec a, Vec b, Vec c, Vec d) {
  const Columns columns = transpose_quads(a, b, c, d);
  for (int i = 0; i < 4; ++i) {
    const Register column = columns.column[i];
    _mm_storeu_ps(to + 16 * i, _mm512_castps512_ps128(column));
    _mm_storeu_ps(to + 16 * (4 + i), _mm512_extractf32x4_ps(column, 1));
    _mm_storeu_ps(to + 16 * (8 + i), _mm512_extractf32x4_ps(column, 2));
    _mm_storeu_ps(to + 16 * (12 + i), _mm512_extractf32x4_ps(column, 3));
  }
}

}  // namespace
}  // namespace microgpt

#include "export.h"
