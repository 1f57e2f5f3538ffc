// The AVX-512 intrinsics that cpp/isa/avx512.cpp uses, made of four SSE registers each: its kernels
// can be tested where the CPU has AVX2 alone. Slow, and for tests only.
#pragma once
#include_next <immintrin.h>

#include <cstdint>
#include <cstring>

namespace emulated {

struct M512 {
  __m128 quad[4];
};

template <class F>
inline M512 quads(F f) {
  return {f(0), f(1), f(2), f(3)};
}
template <class F>
inline M512 map(M512 a, F f) {
  return quads([&](int i) { return f(a.quad[i]); });
}
template <class F>
inline M512 map(M512 a, M512 b, F f) {
  return quads([&](int i) { return f(a.quad[i], b.quad[i]); });
}
template <class F>
inline M512 map(M512 a, M512 b, M512 c, F f) {
  return quads([&](int i) { return f(a.quad[i], b.quad[i], c.quad[i]); });
}
// By element: f(i, element i of each argument).
template <class F>
inline M512 each(M512 a, F f) {
  float x[16];
  std::memcpy(x, &a, sizeof x);
  for (int i = 0; i < 16; ++i) x[i] = f(i, x[i]);
  std::memcpy(&a, x, sizeof x);
  return a;
}
inline float element(M512 a, int i) {
  float x[16];
  std::memcpy(x, &a, sizeof x);
  return x[i];
}

inline M512 load(const void* p) {
  return quads([&](int i) { return _mm_loadu_ps(static_cast<const float*>(p) + 4 * i); });
}
inline void store(void* p, M512 a) {
  for (int i = 0; i < 4; ++i) _mm_storeu_ps(static_cast<float*>(p) + 4 * i, a.quad[i]);
}

// x = f 2^e with 1 <= f < 2; what is not a normal number is its own mantissa.
inline float exponent(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const int field = bits >> 23 & 255;
  return field == 255 ? x * x : field == 0 ? -__builtin_inff() : static_cast<float>(field - 127);
}
inline float mantissa(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits >> 23 & 255) == 255) return x != x ? x : 1.0f;
  bits = (bits & 0x807fffff) | 127u << 23;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
// A number to 14 bits.
inline float first14(float y) {
  uint32_t bits;
  std::memcpy(&bits, &y, sizeof bits);
  if ((bits >> 23 & 255) != 255) bits &= ~0xffu;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}

// Whole numbers of 16 and 32 bits.
struct I512 {
  uint8_t bytes[64];
};
template <class T>
inline I512 same(T x) {
  I512 a;
  for (size_t i = 0; i < 64 / sizeof x; ++i) std::memcpy(a.bytes + i * sizeof x, &x, sizeof x);
  return a;
}
inline uint32_t test16(I512 a, I512 b) {
  uint16_t x[32], y[32];
  std::memcpy(x, &a, sizeof x);
  std::memcpy(y, &b, sizeof y);
  uint32_t mask = 0;
  for (int i = 0; i < 32; ++i) mask |= uint32_t{(x[i] & y[i]) != 0} << i;
  return mask;
}
inline I512 compress32(uint16_t mask, I512 a) {
  uint32_t x[16], kept[16] = {};
  std::memcpy(x, &a, sizeof x);
  for (int i = 0, n = 0; i < 16; ++i)
    if (mask >> i & 1) kept[n++] = x[i];
  std::memcpy(&a, kept, sizeof kept);
  return a;
}
// By element of 32 bits.
inline uint32_t at32(I512 a, int i) {
  uint32_t x;
  std::memcpy(&x, a.bytes + 4 * i, sizeof x);
  return x;
}
template <class F>
inline I512 each32(F f) {
  uint32_t x[16];
  for (int i = 0; i < 16; ++i) x[i] = static_cast<uint32_t>(f(i));
  I512 a;
  std::memcpy(&a, x, sizeof a);
  return a;
}
template <class F>
inline I512 map32(I512 a, I512 b, F f) {
  return each32([&](int i) { return f(at32(a, i), at32(b, i)); });
}
template <class F>
inline uint16_t mask32(I512 a, I512 b, F f) {
  unsigned mask = 0;
  for (int i = 0; i < 16; ++i) mask |= unsigned{f(at32(a, i), at32(b, i))} << i;
  return static_cast<uint16_t>(mask);
}
inline int32_t most32(I512 a) {
  int32_t most = INT32_MIN;
  for (int i = 0; i < 16; ++i)
    if (static_cast<int32_t>(at32(a, i)) > most) most = static_cast<int32_t>(at32(a, i));
  return most;
}
inline bool bit(uint16_t mask, int i) { return mask >> i & 1; }
inline I512 chosen(uint16_t mask, I512 a, I512 other) {
  return each32([&](int i) { return at32(bit(mask, i) ? a : other, i); });
}
inline I512 expand32(uint16_t mask, I512 a) {
  int n = 0;
  return each32([&](int i) { return bit(mask, i) ? at32(a, n++) : 0; });
}
inline I512 conflict32(I512 a) {
  return each32([&](int i) {
    uint32_t equal = 0;
    for (int j = 0; j < i; ++j) equal |= uint32_t{at32(a, j) == at32(a, i)} << j;
    return equal;
  });
}
// Elements of 32 bits at `index` in an array.
inline I512 gather32(I512 from, uint16_t mask, I512 index, const void* p) {
  return each32([&](int i) {
    uint32_t x = at32(from, i);
    if (bit(mask, i)) std::memcpy(&x, static_cast<const char*>(p) + 4 * at32(index, i), sizeof x);
    return x;
  });
}
inline void scatter32(void* p, uint16_t mask, I512 index, I512 a) {
  for (int i = 0; i < 16; ++i)
    if (bit(mask, i)) std::memcpy(static_cast<char*>(p) + 4 * at32(index, i), a.bytes + 4 * i, 4);
}
inline I512 load_some(uint16_t mask, const void* p) {
  return each32([&](int i) {
    uint32_t x = 0;
    if (bit(mask, i)) std::memcpy(&x, static_cast<const char*>(p) + 4 * i, sizeof x);
    return x;
  });
}
inline I512 whole_of(M512 a) {
  I512 b;
  std::memcpy(&b, &a, sizeof b);
  return b;
}
inline M512 floats_of(I512 a) {
  M512 b;
  std::memcpy(&b, &a, sizeof b);
  return b;
}
inline M512 converted32(I512 a) {
  return each(floats_of(a), [&](int i, float) { return static_cast<float>(int32_t(at32(a, i))); });
}
template <class... Numbers>
inline I512 listed(Numbers... numbers) {
  const int32_t x[16] = {numbers...};
  I512 a;
  std::memcpy(&a, x, sizeof x);
  return a;
}
inline I512 load_whole(const void* p) {
  I512 a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
inline void store_whole(void* p, I512 a) { std::memcpy(p, &a, sizeof a); }

}  // namespace emulated

#define __m512 emulated::M512
#define __mmask16 uint16_t
#define __m512i emulated::I512
#define _mm512_loadu_si512(p) emulated::load_whole(p)
#define _mm512_storeu_si512(p, a) emulated::store_whole(p, a)
#define _mm512_set1_epi16(x) emulated::same(static_cast<int16_t>(x))
#define _mm512_set1_epi32(x) emulated::same(static_cast<int32_t>(x))
#define _mm512_setr_epi32(...) emulated::listed(__VA_ARGS__)
#define _mm512_test_epi16_mask(a, b) emulated::test16(a, b)
#define _mm512_add_epi32(a, b) emulated::map32(a, b, [](uint32_t x, uint32_t y) { return x + y; })
#define _mm512_maskz_compress_epi32(mask, a) emulated::compress32(mask, a)
#define _mm512_maskz_expand_epi32(mask, a) emulated::expand32(mask, a)
#define _mm512_conflict_epi32(a) emulated::conflict32(a)
#define _mm512_sub_epi32(a, b) emulated::map32(a, b, [](uint32_t x, uint32_t y) { return x - y; })
#define _mm512_mask_sub_epi32(from, mask, a, b) emulated::chosen(mask, _mm512_sub_epi32(a, b), from)
#define _mm512_mask_mov_epi32(from, mask, a) emulated::chosen(mask, a, from)
#define _mm512_maskz_loadu_epi32(mask, p) emulated::load_some(mask, p)
#define _mm512_mask_i32gather_epi32(from, mask, index, p, scale) \
  emulated::gather32(from, mask, index, p)
#define _mm512_mask_i32gather_ps(from, mask, index, p, scale) \
  emulated::floats_of(emulated::gather32(emulated::whole_of(from), mask, index, p))
#define _mm512_mask_i32scatter_epi32(p, mask, index, a, scale) \
  emulated::scatter32(p, mask, index, a)
#define _mm512_mask_i32scatter_ps(p, mask, index, a, scale) \
  emulated::scatter32(p, mask, index, emulated::whole_of(a))
#define _mm512_castps_si512(a) emulated::whole_of(a)
#define _mm512_castsi512_ps(a) emulated::floats_of(a)
#define _mm512_and_si512(a, b) emulated::map32(a, b, [](uint32_t x, uint32_t y) { return x & y; })
#define _mm512_mullo_epi32(a, b) emulated::map32(a, b, [](uint32_t x, uint32_t y) { return x * y; })
#define _mm512_slli_epi32(a, n) emulated::map32(a, a, [](uint32_t x, uint32_t) { return x << (n); })
#define _mm512_lzcnt_epi32(a) \
  emulated::map32(a, a, [](uint32_t x, uint32_t) { return x == 0 ? 32 : __builtin_clz(x); })
#define _mm512_permutexvar_epi32(index, a)                           \
  emulated::map32(index, index, [from = (a)](uint32_t i, uint32_t) { \
    return emulated::at32(from, static_cast<int>(i & 15));           \
  })
#define _mm512_test_epi32_mask(a, b) \
  emulated::mask32(a, b, [](uint32_t x, uint32_t y) { return (x & y) != 0; })
#define _mm512_testn_epi32_mask(a, b) \
  emulated::mask32(a, b, [](uint32_t x, uint32_t y) { return (x & y) == 0; })
#define _mm512_cmpeq_epi32_mask(a, b) \
  emulated::mask32(a, b, [](uint32_t x, uint32_t y) { return x == y; })
#define _mm512_cmpgt_epi32_mask(a, b) \
  emulated::mask32(a, b, [](int32_t x, int32_t y) { return x > y; })
#define _mm512_mask_cmpge_epu32_mask(mask, a, b) \
  static_cast<uint16_t>((mask) &                 \
                        emulated::mask32(a, b, [](uint32_t x, uint32_t y) { return x >= y; }))
#define _mm512_reduce_max_epi32(a) emulated::most32(a)
#define _mm512_cvtepi32_ps(a) emulated::converted32(a)
#define EMULATED_LANES(name, a, b) \
  emulated::whole_of(name(emulated::floats_of(a), emulated::floats_of(b)))
#define _mm512_unpacklo_epi32(a, b) EMULATED_LANES(_mm512_unpacklo_ps, a, b)
#define _mm512_unpackhi_epi32(a, b) EMULATED_LANES(_mm512_unpackhi_ps, a, b)
#define _mm512_unpacklo_epi64(a, b) \
  emulated::whole_of(_mm512_shuffle_ps(emulated::floats_of(a), emulated::floats_of(b), 0x44))
#define _mm512_unpackhi_epi64(a, b) \
  emulated::whole_of(_mm512_shuffle_ps(emulated::floats_of(a), emulated::floats_of(b), 0xEE))
#define _mm512_shuffle_i32x4(a, b, i) \
  emulated::whole_of(_mm512_shuffle_f32x4(emulated::floats_of(a), emulated::floats_of(b), i))
#define _mm512_loadu_ps emulated::load
#define _mm512_storeu_ps emulated::store
#define _mm512_set1_ps(x) emulated::quads([value = (x)](int) { return _mm_set1_ps(value); })
#define _mm512_setzero_ps() _mm512_set1_ps(0.0f)
#define _mm512_broadcast_f32x4(x) emulated::quads([value = (x)](int) { return value; })
#define _mm512_set1_pd(x) \
  emulated::quads([value = (x)](int) { return _mm_castpd_ps(_mm_set1_pd(value)); })
#define _mm512_castpd_ps(a) (a)
#define _mm512_castps512_ps128(a) (a).quad[0]
#define _mm512_castps512_ps256(a) _mm256_set_m128((a).quad[1], (a).quad[0])
#define _mm512_extractf32x4_ps(a, i) (a).quad[i]
#define _mm512_extractf32x8_ps(a, i) _mm256_set_m128((a).quad[2 * (i) + 1], (a).quad[2 * (i)])
#define _mm512_add_ps(a, b) emulated::map(a, b, [](__m128 x, __m128 y) { return _mm_add_ps(x, y); })
#define _mm512_sub_ps(a, b) emulated::map(a, b, [](__m128 x, __m128 y) { return _mm_sub_ps(x, y); })
#define _mm512_mul_ps(a, b) emulated::map(a, b, [](__m128 x, __m128 y) { return _mm_mul_ps(x, y); })
#define _mm512_div_ps(a, b) emulated::map(a, b, [](__m128 x, __m128 y) { return _mm_div_ps(x, y); })
#define _mm512_max_ps(a, b) emulated::map(a, b, [](__m128 x, __m128 y) { return _mm_max_ps(x, y); })
#define _mm512_sqrt_ps(a) emulated::map(a, [](__m128 x) { return _mm_sqrt_ps(x); })
#define _mm512_fmadd_ps(a, b, c) \
  emulated::map(a, b, c, [](__m128 x, __m128 y, __m128 z) { return _mm_fmadd_ps(x, y, z); })
#define _mm512_fnmadd_ps(a, b, c) \
  emulated::map(a, b, c, [](__m128 x, __m128 y, __m128 z) { return _mm_fnmadd_ps(x, y, z); })
#define _mm512_unpacklo_ps(a, b) \
  emulated::map(a, b, [](__m128 x, __m128 y) { return _mm_unpacklo_ps(x, y); })
#define _mm512_unpackhi_ps(a, b) \
  emulated::map(a, b, [](__m128 x, __m128 y) { return _mm_unpackhi_ps(x, y); })
#define _mm512_permute_ps(a, i) emulated::map(a, [](__m128 x) { return _mm_shuffle_ps(x, x, (i)); })
#define _mm512_shuffle_ps(a, b, i) \
  emulated::map(a, b, [](__m128 x, __m128 y) { return _mm_shuffle_ps(x, y, (i)); })
#define _mm512_shuffle_f32x4(a, b, i)                                                \
  (emulated::M512{(a).quad[(i) & 3], (a).quad[(i) >> 2 & 3], (b).quad[(i) >> 4 & 3], \
                  (b).quad[(i) >> 6 & 3]})
#define _mm512_cmp_ps_mask(a, b, predicate)                                            \
  [](emulated::M512 x, emulated::M512 y) {                                             \
    int bits = 0;                                                                      \
    for (int q = 0; q < 4; ++q)                                                        \
      bits |= _mm_movemask_ps(_mm_cmp_ps(x.quad[q], y.quad[q], predicate)) << (4 * q); \
    return static_cast<uint16_t>(bits);                                                \
  }(a, b)
#define _mm512_maskz_mov_ps(mask, a) \
  emulated::each(a, [m = (mask)](int i, float x) { return m >> i & 1 ? x : 0.0f; })
#define _mm512_mask_add_ps(from, mask, a, b)                                     \
  emulated::each(from, [m = (mask), sum = _mm512_add_ps(a, b)](int i, float x) { \
    return m >> i & 1 ? emulated::element(sum, i) : x;                           \
  })
#define _mm512_rcp14_ps(a) \
  emulated::each(a, [](int, float x) { return emulated::first14(1.0f / x); })
#define _mm512_rsqrt14_ps(a) \
  emulated::each(a, [](int, float x) { return emulated::first14(1.0f / __builtin_sqrtf(x)); })
#define _mm512_getexp_ps(a) emulated::each(a, [](int, float x) { return emulated::exponent(x); })
// Of the intervals only those in use: [1, 2), and [3/4, 3/2).
#define _mm512_getmant_ps(a, interval, sign)                            \
  emulated::each(a, [](int, float x) {                                  \
    const float f = emulated::mantissa(x);                              \
    return (interval) != _MM_MANT_NORM_1_2 && f >= 1.5f ? 0.5f * f : f; \
  })
