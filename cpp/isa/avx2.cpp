// AVX2 and FMA: eight lanes, sixteen registers.
#include <immintrin.h>

#include "../batch.h"
#include "../config.h"
#include "../denormals.h"
#include "../kernels/bits.h"

namespace microgpt {
namespace {

using Register = __m256;

struct Vec {
  static constexpr int lanes = 8;
  static constexpr int accumulators = 12;  // of a register tile, of 16 registers
  static constexpr int tile_panels = 1;    // at most, side by side in one tile
  static constexpr bool compact = false;   // code may have special cases
  Register r;

  PYMICROGPT_INLINE static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  PYMICROGPT_INLINE static Vec set(float x) { return {_mm256_set1_ps(x)}; }
  PYMICROGPT_INLINE static Vec load_quad(const float* p) {
    return {_mm256_broadcast_ps(reinterpret_cast<const __m128*>(p))};
  }
  // The same two floats everywhere.
  PYMICROGPT_INLINE static Vec load_pair(const float* p) {
    double pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return {_mm256_castpd_ps(_mm256_set1_pd(pair))};
  }
  PYMICROGPT_INLINE void store(float* p) const { _mm256_storeu_ps(p, r); }
  PYMICROGPT_INLINE void store_quad(float* p) const { _mm_storeu_ps(p, _mm256_castps256_ps128(r)); }
};

}  // namespace
}  // namespace microgpt

#define MM(name) _mm256_##name
#include "x86.h"

namespace microgpt {
namespace {

// 1 / a to an ulp or two: one Newton step from 12 bits.
PYMICROGPT_INLINE Vec reciprocal(Vec a) {
  const Register r = _mm256_rcp_ps(a.r);
  return {_mm256_mul_ps(r, _mm256_fnmadd_ps(a.r, r, _mm256_set1_ps(2.0f)))};
}
PYMICROGPT_INLINE Vec other_sqrt(Vec a) { return sqrt(a); }
PYMICROGPT_INLINE Vec where_greater(Vec a, Vec b, Vec c) {
  return {_mm256_and_ps(_mm256_cmp_ps(a.r, b.r, _CMP_GT_OQ), c.r)};
}
PYMICROGPT_INLINE Vec flush_below(float, Vec a) { return a; }  // see FlushDenormals
PYMICROGPT_INLINE unsigned unequal(Vec a, Vec b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.r, b.r, _CMP_NEQ_UQ)));
}
PYMICROGPT_INLINE Vec last_as_exponent(Vec a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.r), 23))};
}
PYMICROGPT_INLINE void split(Vec x, Vec& e, Vec& f) {
  // Rounding up from 3/2 moves the carry into the exponent, so that f lies in [3/4, 3/2).
  const __m256i bits = _mm256_castps_si256(x.r);
  const __m256i field =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x00400000)), 23);
  const __m256i exponent = _mm256_sub_epi32(field, _mm256_set1_epi32(127));
  e = {_mm256_cvtepi32_ps(exponent)};
  f = {_mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(exponent, 23)))};
}

PYMICROGPT_INLINE Vec across_quads(Vec a) {
  return {_mm256_add_ps(a.r, _mm256_permute2f128_ps(a.r, a.r, 1))};
}
PYMICROGPT_INLINE Vec max_across_quads(Vec a) {
  return {_mm256_max_ps(a.r, _mm256_permute2f128_ps(a.r, a.r, 1))};
}

// As plain_bits of kernels/bits.h.
PYMICROGPT_INLINE uint64_t set_bits(const uint16_t* from, uint16_t of) {
  const __m256i bits = _mm256_set1_epi16(static_cast<int16_t>(of));
  uint64_t word = 0;
  for (int i = 0; i < 2; ++i, from += 32) {
    const auto zeros = [from, bits](int half) {
      const auto* sixteen = reinterpret_cast<const __m256i*>(from + 16 * half);
      return _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_loadu_si256(sixteen), bits),
                                _mm256_setzero_si256());
    };
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(zeros(0), zeros(1)), 0xD8);
    word |= uint64_t{~static_cast<uint32_t>(_mm256_movemask_epi8(bytes))} << (32 * i);
  }
  return word;
}

using by_entry::build_prefixes;
using plain_bits::list_bits;
using plain_bits::transpose_bits;

// Quad i is the sum of the quads of t[i].
PYMICROGPT_INLINE Vec sum_quads(const Vec* t) {
  return {_mm256_add_ps(_mm256_permute2f128_ps(t[0].r, t[1].r, 0x20),
                        _mm256_permute2f128_ps(t[0].r, t[1].r, 0x31))};
}

// At to + step i, quad i of the four vectors side by side.
PYMICROGPT_INLINE void store_quads(float* to, int step, const Vec* t) {
  _mm256_storeu_ps(to, _mm256_permute2f128_ps(t[0].r, t[1].r, 0x20));
  _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(t[2].r, t[3].r, 0x20));
  _mm256_storeu_ps(to + step, _mm256_permute2f128_ps(t[0].r, t[1].r, 0x31));
  _mm256_storeu_ps(to + step + 8, _mm256_permute2f128_ps(t[2].r, t[3].r, 0x31));
}
// to[16 j + i] = element j of the i-th argument.
PYMICROGPT_INLINE void store_transposed(float* to, Vec a, Vec b, Vec c, Vec d) {
  const Columns columns = transpose_quads(a, b, c, d);
  for (int i = 0; i < 4; ++i) {
    const Register column = columns.column[i];
    _mm_storeu_ps(to + 16 * i, _mm256_castps256_ps128(column));
    _mm_storeu_ps(to + 16 * (4 + i), _mm256_extractf128_ps(column, 1));
  }
}

}  // namespace
}  // namespace microgpt

#include "export.h"
