// WebAssembly SIMD: four lanes. How many registers there are only the machine below knows: 16 on x86,
// 32 on ARM.
#include <wasm_simd128.h>

#include "../config.h"
#include "../denormals.h"

namespace microgpt {
namespace {

struct V {
  static constexpr int lanes = 4;
  static constexpr int accumulators = 12;
  static constexpr int tile_panels = 1;
  // It is downloaded: one thread, no phases, both copies of each matrix, few special cases.
  static constexpr bool compact = true;
  v128_t r;

  PYMICROGPT_INLINE static V load(const float* p) { return {wasm_v128_load(p)}; }
  PYMICROGPT_INLINE static V set(float x) { return {wasm_f32x4_splat(x)}; }
  PYMICROGPT_INLINE static V load_quad(const float* p) { return {wasm_v128_load(p)}; }
  PYMICROGPT_INLINE static V load_pair(const float* p) { return {wasm_v128_load64_splat(p)}; }
  PYMICROGPT_INLINE void store(float* p) const { wasm_v128_store(p, r); }
  PYMICROGPT_INLINE void store_quad(float* p) const { wasm_v128_store(p, r); }
};

PYMICROGPT_INLINE V operator+(V a, V b) { return {wasm_f32x4_add(a.r, b.r)}; }
PYMICROGPT_INLINE V operator-(V a, V b) { return {wasm_f32x4_sub(a.r, b.r)}; }
PYMICROGPT_INLINE V operator*(V a, V b) { return {wasm_f32x4_mul(a.r, b.r)}; }
PYMICROGPT_INLINE V operator/(V a, V b) { return {wasm_f32x4_div(a.r, b.r)}; }
#ifdef __wasm_relaxed_simd__
// Rounded once where the CPU has it, else twice: which one is what is relaxed.
PYMICROGPT_INLINE V fma(V a, V b, V c) { return {wasm_f32x4_relaxed_madd(a.r, b.r, c.r)}; }
#else
PYMICROGPT_INLINE V fma(V a, V b, V c) { return {wasm_f32x4_add(wasm_f32x4_mul(a.r, b.r), c.r)}; }
#endif
// pmax(b, a) is b < a ? a : b, so that a NaN in b stays; one instruction on x86, where max takes many.
PYMICROGPT_INLINE V max(V a, V b) { return {wasm_f32x4_pmax(b.r, a.r)}; }
PYMICROGPT_INLINE V sqrt(V a) { return {wasm_f32x4_sqrt(a.r)}; }
PYMICROGPT_INLINE V reciprocal(V a) { return {wasm_f32x4_div(wasm_f32x4_splat(1.0f), a.r)}; }
PYMICROGPT_INLINE V round(V a) { return {wasm_f32x4_nearest(a.r)}; }
PYMICROGPT_INLINE V where_greater(V a, V b, V c) {
  return {wasm_v128_and(wasm_f32x4_gt(a.r, b.r), c.r)};
}
PYMICROGPT_INLINE V flush_below(float least, V a) {
  return {wasm_v128_andnot(a.r, wasm_f32x4_lt(wasm_f32x4_abs(a.r), wasm_f32x4_splat(least)))};
}
PYMICROGPT_INLINE unsigned unequal(V a, V b) {
  return wasm_i32x4_bitmask(wasm_f32x4_ne(a.r, b.r));
}
PYMICROGPT_INLINE V pow2(V n) {
  // n + 127 + 1.5 * 2^23 has n + 127 in its last bits: no conversion, which would check its range.
  const v128_t shifted = wasm_f32x4_add(n.r, wasm_f32x4_splat(12582912.0f + 127.0f));
  return {wasm_i32x4_shl(shifted, 23)};
}
PYMICROGPT_INLINE void split(V x, V& e, V& f) {
  // Rounding up from 3/2 moves the carry into the exponent, so that f lies in [3/4, 3/2).
  const v128_t field = wasm_u32x4_shr(wasm_i32x4_add(x.r, wasm_i32x4_splat(0x00400000)), 23);
  const v128_t exponent = wasm_i32x4_sub(field, wasm_i32x4_splat(127));
  e = {wasm_f32x4_convert_i32x4(exponent)};
  f = {wasm_i32x4_sub(x.r, wasm_i32x4_shl(exponent, 23))};
}

template <int i>
PYMICROGPT_INLINE V quad(V a) {
  return {wasm_i32x4_shuffle(a.r, a.r, i, i, i, i)};
}
PYMICROGPT_INLINE V swap_pairs(V a) { return {wasm_i32x4_shuffle(a.r, a.r, 1, 0, 3, 2)}; }
PYMICROGPT_INLINE V swap_halves(V a) { return {wasm_i32x4_shuffle(a.r, a.r, 2, 3, 0, 1)}; }
PYMICROGPT_INLINE V even(V a, V b) { return {wasm_i32x4_shuffle(a.r, b.r, 0, 2, 4, 6)}; }
PYMICROGPT_INLINE V odd(V a, V b) { return {wasm_i32x4_shuffle(a.r, b.r, 1, 3, 5, 7)}; }
[[maybe_unused]] PYMICROGPT_INLINE V interleave_low(V a, V b) {
  return {wasm_i32x4_shuffle(a.r, b.r, 0, 4, 1, 5)};
}
[[maybe_unused]] PYMICROGPT_INLINE V interleave_high(V a, V b) {
  return {wasm_i32x4_shuffle(a.r, b.r, 2, 6, 3, 7)};
}
[[maybe_unused]] PYMICROGPT_INLINE V pair_sums(V a, V b) { return even(a, b) + odd(a, b); }
PYMICROGPT_INLINE V quad_sum(V a) {
  const V pairs = a + swap_pairs(a);
  return pairs + swap_halves(pairs);
}
PYMICROGPT_INLINE V quad_max(V a) {
  const V pairs = max(a, swap_pairs(a));
  return max(pairs, swap_halves(pairs));
}
PYMICROGPT_INLINE V across_quads(V a) { return a; }
PYMICROGPT_INLINE V max_across_quads(V a) { return a; }
PYMICROGPT_INLINE V reduce4(V a, V b, V c, V d) {
  const V ab = even(a, b) + odd(a, b), cd = even(c, d) + odd(c, d);
  return even(ab, cd) + odd(ab, cd);
}
PYMICROGPT_INLINE V max4(V a, V b, V c, V d) {
  const V ab = max(even(a, b), odd(a, b)), cd = max(even(c, d), odd(c, d));
  return max(even(ab, cd), odd(ab, cd));
}
PYMICROGPT_INLINE V sum_quads(const V* t) { return t[0]; }

// to[16 j + i] = element j of the i-th argument.
PYMICROGPT_INLINE void store_transposed(float* to, V a, V b, V c, V d) {
  const V ab0 = interleave_low(a, b), ab1 = interleave_high(a, b);
  const V cd0 = interleave_low(c, d), cd1 = interleave_high(c, d);
  wasm_v128_store(to, wasm_i64x2_shuffle(ab0.r, cd0.r, 0, 2));
  wasm_v128_store(to + 16, wasm_i64x2_shuffle(ab0.r, cd0.r, 1, 3));
  wasm_v128_store(to + 32, wasm_i64x2_shuffle(ab1.r, cd1.r, 0, 2));
  wasm_v128_store(to + 48, wasm_i64x2_shuffle(ab1.r, cd1.r, 1, 3));
}

// There is no counter: the phases of a step are not timed here.
PYMICROGPT_INLINE uint64_t now() { return 0; }

}  // namespace
}  // namespace microgpt

#include "../kernels/model.h"

namespace microgpt {
extern const Kernels PYMICROGPT_TABLE;
constexpr Kernels PYMICROGPT_TABLE = table();
}  // namespace microgpt
