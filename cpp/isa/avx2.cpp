// AVX2 and FMA: eight lanes, sixteen registers.
#include <immintrin.h>

#include "../config.h"
#include "../denormals.h"

namespace microgpt {
namespace {

struct V {
  static constexpr int lanes = 8;
  static constexpr int accumulators = 12;  // of a register tile, of 16 registers
  static constexpr int tile_panels = 1;    // at most, side by side in one tile
  static constexpr bool compact = false;  // code may have special cases
  __m256 r;

  PYMICROGPT_INLINE static V load(const float* p) { return {_mm256_loadu_ps(p)}; }
  PYMICROGPT_INLINE static V set(float x) { return {_mm256_set1_ps(x)}; }
  PYMICROGPT_INLINE static V load_quad(const float* p) {
    return {_mm256_broadcast_ps(reinterpret_cast<const __m128*>(p))};
  }
  // The same two floats everywhere.
  PYMICROGPT_INLINE static V load_pair(const float* p) {
    double pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return {_mm256_castpd_ps(_mm256_set1_pd(pair))};
  }
  PYMICROGPT_INLINE void store(float* p) const { _mm256_storeu_ps(p, r); }
  PYMICROGPT_INLINE void store_quad(float* p) const { _mm_storeu_ps(p, _mm256_castps256_ps128(r)); }
};

PYMICROGPT_INLINE V operator+(V a, V b) { return {_mm256_add_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V operator-(V a, V b) { return {_mm256_sub_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V operator*(V a, V b) { return {_mm256_mul_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V operator/(V a, V b) { return {_mm256_div_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V fma(V a, V b, V c) { return {_mm256_fmadd_ps(a.r, b.r, c.r)}; }
PYMICROGPT_INLINE V max(V a, V b) { return {_mm256_max_ps(a.r, b.r)}; }
PYMICROGPT_INLINE V sqrt(V a) { return {_mm256_sqrt_ps(a.r)}; }
// 1 / a to an ulp or two: one Newton step from 12 bits.
PYMICROGPT_INLINE V reciprocal(V a) {
  const __m256 r = _mm256_rcp_ps(a.r);
  return {_mm256_mul_ps(r, _mm256_fnmadd_ps(a.r, r, _mm256_set1_ps(2.0f)))};
}
PYMICROGPT_INLINE V round(V a) {
  return {_mm256_round_ps(a.r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
PYMICROGPT_INLINE V where_greater(V a, V b, V c) {
  return {_mm256_and_ps(_mm256_cmp_ps(a.r, b.r, _CMP_GT_OQ), c.r)};
}
PYMICROGPT_INLINE V flush_below(float, V a) { return a; }  // see FlushDenormals
PYMICROGPT_INLINE unsigned unequal(V a, V b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.r, b.r, _CMP_NEQ_UQ)));
}
PYMICROGPT_INLINE V pow2(V n) {
  const __m256i field = _mm256_add_epi32(_mm256_cvtps_epi32(n.r), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(field, 23))};
}
PYMICROGPT_INLINE void split(V x, V& e, V& f) {
  // Rounding up from 3/2 moves the carry into the exponent, so that f lies in [3/4, 3/2).
  const __m256i bits = _mm256_castps_si256(x.r);
  const __m256i field =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x00400000)), 23);
  const __m256i exponent = _mm256_sub_epi32(field, _mm256_set1_epi32(127));
  e = {_mm256_cvtepi32_ps(exponent)};
  f = {_mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(exponent, 23)))};
}

template <int i>
PYMICROGPT_INLINE V quad(V a) {
  return {_mm256_permute_ps(a.r, i * 0x55)};
}
// The first halves of the quads of a and b, element by element in turns, and the second halves.
[[maybe_unused]] PYMICROGPT_INLINE V interleave_low(V a, V b) { return {_mm256_unpacklo_ps(a.r, b.r)}; }
[[maybe_unused]] PYMICROGPT_INLINE V interleave_high(V a, V b) { return {_mm256_unpackhi_ps(a.r, b.r)}; }
// The sums of neighbours: where a came of interleave_low and b of interleave_high, one sum again.
[[maybe_unused]] PYMICROGPT_INLINE V pair_sums(V a, V b) {
  return {_mm256_add_ps(_mm256_shuffle_ps(a.r, b.r, 0x88), _mm256_shuffle_ps(a.r, b.r, 0xDD))};
}
PYMICROGPT_INLINE V quad_sum(V a) {
  const __m256 b = _mm256_add_ps(a.r, _mm256_permute_ps(a.r, 0xB1));
  return {_mm256_add_ps(b, _mm256_permute_ps(b, 0x4E))};
}
PYMICROGPT_INLINE V quad_max(V a) {
  const __m256 b = _mm256_max_ps(a.r, _mm256_permute_ps(a.r, 0xB1));
  return {_mm256_max_ps(b, _mm256_permute_ps(b, 0x4E))};
}
PYMICROGPT_INLINE V across_quads(V a) {
  return {_mm256_add_ps(a.r, _mm256_permute2f128_ps(a.r, a.r, 1))};
}
PYMICROGPT_INLINE V max_across_quads(V a) {
  return {_mm256_max_ps(a.r, _mm256_permute2f128_ps(a.r, a.r, 1))};
}
PYMICROGPT_INLINE V reduce4(V a, V b, V c, V d) {
  const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a.r, b.r), _mm256_unpackhi_ps(a.r, b.r));
  const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c.r, d.r), _mm256_unpackhi_ps(c.r, d.r));
  return {_mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE))};
}
PYMICROGPT_INLINE V max4(V a, V b, V c, V d) {
  const __m256 ab = _mm256_max_ps(_mm256_unpacklo_ps(a.r, b.r), _mm256_unpackhi_ps(a.r, b.r));
  const __m256 cd = _mm256_max_ps(_mm256_unpacklo_ps(c.r, d.r), _mm256_unpackhi_ps(c.r, d.r));
  return {_mm256_max_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xEE))};
}

// Quad i is the sum of the quads of t[i].
PYMICROGPT_INLINE V sum_quads(const V* t) {
  return {_mm256_add_ps(_mm256_permute2f128_ps(t[0].r, t[1].r, 0x20),
                        _mm256_permute2f128_ps(t[0].r, t[1].r, 0x31))};
}

// to[16 j + i] = element j of the i-th argument.
PYMICROGPT_INLINE void store_transposed(float* to, V a, V b, V c, V d) {
  const __m256 ab0 = _mm256_unpacklo_ps(a.r, b.r), ab1 = _mm256_unpackhi_ps(a.r, b.r);
  const __m256 cd0 = _mm256_unpacklo_ps(c.r, d.r), cd1 = _mm256_unpackhi_ps(c.r, d.r);
  const __m256 column[4] = {_mm256_shuffle_ps(ab0, cd0, 0x44), _mm256_shuffle_ps(ab0, cd0, 0xEE),
                            _mm256_shuffle_ps(ab1, cd1, 0x44), _mm256_shuffle_ps(ab1, cd1, 0xEE)};
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_ps(to + 16 * i, _mm256_castps256_ps128(column[i]));
    _mm_storeu_ps(to + 16 * (4 + i), _mm256_extractf128_ps(column[i], 1));
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
