// WebAssembly SIMD: four lanes. How many registers there are only the machine below knows: 32 on
// ARM, 16 on x86, of which V8 keeps one for itself.
#include <wasm_simd128.h>

#include "../batch.h"
#include "../config.h"
#include "../denormals.h"
#include "../kernels/bits.h"

namespace microgpt {
namespace {

struct Vec {
  static constexpr int lanes = 4;
  // With four vectors of a panel and a factor 13 registers: with 12 sums some would live in memory.
  static constexpr int accumulators = 8;
  static constexpr int tile_panels = 1;
  // It is downloaded: one thread, no phases, both copies of each matrix, few special cases.
  static constexpr bool compact = true;
  v128_t r;

  PYMICROGPT_INLINE static Vec load(const float* p) { return {wasm_v128_load(p)}; }
  PYMICROGPT_INLINE static Vec set(float x) { return {wasm_f32x4_splat(x)}; }
  PYMICROGPT_INLINE static Vec load_quad(const float* p) { return {wasm_v128_load(p)}; }
  PYMICROGPT_INLINE static Vec load_pair(const float* p) { return {wasm_v128_load64_splat(p)}; }
  PYMICROGPT_INLINE void store(float* p) const { wasm_v128_store(p, r); }
  PYMICROGPT_INLINE void store_quad(float* p) const { wasm_v128_store(p, r); }
};

PYMICROGPT_INLINE Vec operator+(Vec a, Vec b) { return {wasm_f32x4_add(a.r, b.r)}; }
PYMICROGPT_INLINE Vec operator-(Vec a, Vec b) { return {wasm_f32x4_sub(a.r, b.r)}; }
PYMICROGPT_INLINE Vec operator*(Vec a, Vec b) { return {wasm_f32x4_mul(a.r, b.r)}; }
PYMICROGPT_INLINE Vec operator/(Vec a, Vec b) { return {wasm_f32x4_div(a.r, b.r)}; }
#ifdef __wasm_relaxed_simd__
// Rounded once where the CPU has it, else twice: which one is what is relaxed.
PYMICROGPT_INLINE Vec fma(Vec a, Vec b, Vec c) { return {wasm_f32x4_relaxed_madd(a.r, b.r, c.r)}; }
#else
PYMICROGPT_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return {wasm_f32x4_add(wasm_f32x4_mul(a.r, b.r), c.r)};
}
#endif
// pmax(b, a) is b < a ? a : b, so that a NaN in b stays; one instruction on x86, where max takes
// many.
PYMICROGPT_INLINE Vec max(Vec a, Vec b) { return {wasm_f32x4_pmax(b.r, a.r)}; }
PYMICROGPT_INLINE Vec sqrt(Vec a) { return {wasm_f32x4_sqrt(a.r)}; }
PYMICROGPT_INLINE Vec other_sqrt(Vec a) { return sqrt(a); }
PYMICROGPT_INLINE Vec reciprocal(Vec a) { return {wasm_f32x4_div(wasm_f32x4_splat(1.0f), a.r)}; }
PYMICROGPT_INLINE Vec where_greater(Vec a, Vec b, Vec c) {
  return {wasm_v128_and(wasm_f32x4_gt(a.r, b.r), c.r)};
}
PYMICROGPT_INLINE Vec flush_below(float least, Vec a) {
  return {wasm_v128_andnot(a.r, wasm_f32x4_lt(wasm_f32x4_abs(a.r), wasm_f32x4_splat(least)))};
}
PYMICROGPT_INLINE unsigned unequal(Vec a, Vec b) {
  return wasm_i32x4_bitmask(wasm_f32x4_ne(a.r, b.r));
}
PYMICROGPT_INLINE Vec last_as_exponent(Vec a) { return {wasm_i32x4_shl(a.r, 23)}; }
PYMICROGPT_INLINE void split(Vec x, Vec& e, Vec& f) {
  // Rounding up from 3/2 moves the carry into the exponent, so that f lies in [3/4, 3/2).
  const v128_t field = wasm_u32x4_shr(wasm_i32x4_add(x.r, wasm_i32x4_splat(0x00400000)), 23);
  const v128_t exponent = wasm_i32x4_sub(field, wasm_i32x4_splat(127));
  e = {wasm_f32x4_convert_i32x4(exponent)};
  f = {wasm_i32x4_sub(x.r, wasm_i32x4_shl(exponent, 23))};
}

template <int i>
PYMICROGPT_INLINE Vec quad(Vec a) {
  return {wasm_i32x4_shuffle(a.r, a.r, i, i, i, i)};
}
PYMICROGPT_INLINE Vec swap_pairs(Vec a) { return {wasm_i32x4_shuffle(a.r, a.r, 1, 0, 3, 2)}; }
PYMICROGPT_INLINE Vec swap_halves(Vec a) { return {wasm_i32x4_shuffle(a.r, a.r, 2, 3, 0, 1)}; }
PYMICROGPT_INLINE Vec even(Vec a, Vec b) { return {wasm_i32x4_shuffle(a.r, b.r, 0, 2, 4, 6)}; }
PYMICROGPT_INLINE Vec odd(Vec a, Vec b) { return {wasm_i32x4_shuffle(a.r, b.r, 1, 3, 5, 7)}; }
PYMICROGPT_INLINE Vec interleave_low(Vec a, Vec b) {
  return {wasm_i32x4_shuffle(a.r, b.r, 0, 4, 1, 5)};
}
PYMICROGPT_INLINE Vec interleave_high(Vec a, Vec b) {
  return {wasm_i32x4_shuffle(a.r, b.r, 2, 6, 3, 7)};
}
PYMICROGPT_INLINE Vec pairs_low(Vec a, Vec b) { return {wasm_i64x2_shuffle(a.r, b.r, 0, 2)}; }
PYMICROGPT_INLINE Vec pairs_high(Vec a, Vec b) { return {wasm_i64x2_shuffle(a.r, b.r, 1, 3)}; }
PYMICROGPT_INLINE Vec pair_sums(Vec a, Vec b) { return even(a, b) + odd(a, b); }
PYMICROGPT_INLINE Vec quad_sum(Vec a) {
  const Vec pairs = a + swap_pairs(a);
  return pairs + swap_halves(pairs);
}
PYMICROGPT_INLINE Vec quad_max(Vec a) {
  const Vec pairs = max(a, swap_pairs(a));
  return max(pairs, swap_halves(pairs));
}
PYMICROGPT_INLINE Vec across_quads(Vec a) { return a; }
PYMICROGPT_INLINE Vec max_across_quads(Vec a) { return a; }
PYMICROGPT_INLINE Vec reduce4(Vec a, Vec b, Vec c, Vec d) {
  const Vec ab = even(a, b) + odd(a, b), cd = even(c, d) + odd(c, d);
  return even(ab, cd) + odd(ab, cd);
}
PYMICROGPT_INLINE Vec max4(Vec a, Vec b, Vec c, Vec d) {
  const Vec ab = max(even(a, b), odd(a, b)), cd = max(even(c, d), odd(c, d));
  return max(even(ab, cd), odd(ab, cd));
}
PYMICROGPT_INLINE Vec sum_quads(const Vec* t) { return t[0]; }

// to[16 j + i] = element j of the i-th argument.
PYMICROGPT_INLINE void store_transposed(float* to, Vec a, Vec b, Vec c, Vec d) {
  const Vec ab0 = interleave_low(a, b), ab1 = interleave_high(a, b);
  const Vec cd0 = interleave_low(c, d), cd1 = interleave_high(c, d);
  wasm_v128_store(to, wasm_i64x2_shuffle(ab0.r, cd0.r, 0, 2));
  wasm_v128_store(to + 16, wasm_i64x2_shuffle(ab0.r, cd0.r, 1, 3));
  wasm_v128_store(to + 32, wasm_i64x2_shuffle(ab1.r, cd1.r, 0, 2));
  wasm_v128_store(to + 48, wasm_i64x2_shuffle(ab1.r, cd1.r, 1, 3));
}

// At to + step i, quad i of the four vectors side by side.
PYMICROGPT_INLINE void store_quads(float* to, int, const Vec* t) {
  for (int i = 0; i < 4; ++i) t[i].store(to + 4 * i);
}

using by_entry::build_prefixes;
using plain_bits::list_bits;
using plain_bits::set_bits;
using plain_bits::transpose_bits;

// There is no counter: the phases of a step are not timed here.
PYMICROGPT_INLINE uint64_t now() { return 0; }

}  // namespace
}  // namespace microgpt

#include "export.h"
