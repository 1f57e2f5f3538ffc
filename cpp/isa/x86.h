// What AVX2 and AVX-512 have in common: operations whose intrinsics differ in the width alone. The
// including file has defined Vec over Register, and MM(name): the intrinsic `name` of its width.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace microgpt {
namespace {

PYMICROGPT_INLINE Vec operator+(Vec a, Vec b) { return {MM(add_ps)(a.r, b.r)}; }
PYMICROGPT_INLINE Vec operator-(Vec a, Vec b) { return {MM(sub_ps)(a.r, b.r)}; }
PYMICROGPT_INLINE Vec operator*(Vec a, Vec b) { return {MM(mul_ps)(a.r, b.r)}; }
PYMICROGPT_INLINE Vec operator/(Vec a, Vec b) { return {MM(div_ps)(a.r, b.r)}; }
PYMICROGPT_INLINE Vec fma(Vec a, Vec b, Vec c) { return {MM(fmadd_ps)(a.r, b.r, c.r)}; }
PYMICROGPT_INLINE Vec max(Vec a, Vec b) { return {MM(max_ps)(a.r, b.r)}; }
PYMICROGPT_INLINE Vec sqrt(Vec a) { return {MM(sqrt_ps)(a.r)}; }

template <int i>
PYMICROGPT_INLINE Vec quad(Vec a) {
  return {MM(permute_ps)(a.r, i * 0x55)};
}
// The first halves of the quads of a and b, element by element in turns, and the second halves.
PYMICROGPT_INLINE Vec interleave_low(Vec a, Vec b) { return {MM(unpacklo_ps)(a.r, b.r)}; }
PYMICROGPT_INLINE Vec interleave_high(Vec a, Vec b) { return {MM(unpackhi_ps)(a.r, b.r)}; }
// The first two of each quad of a and then of b, and the last two.
PYMICROGPT_INLINE Vec pairs_low(Vec a, Vec b) { return {MM(shuffle_ps)(a.r, b.r, 0x44)}; }
PYMICROGPT_INLINE Vec pairs_high(Vec a, Vec b) { return {MM(shuffle_ps)(a.r, b.r, 0xEE)}; }
// The sums of neighbours: where a came of interleave_low and b of interleave_high, one sum again.
PYMICROGPT_INLINE Vec pair_sums(Vec a, Vec b) {
  return {MM(add_ps)(MM(shuffle_ps)(a.r, b.r, 0x88), MM(shuffle_ps)(a.r, b.r, 0xDD))};
}
PYMICROGPT_INLINE Vec quad_sum(Vec a) {
  const Register b = MM(add_ps)(a.r, MM(permute_ps)(a.r, 0xB1));
  return {MM(add_ps)(b, MM(permute_ps)(b, 0x4E))};
}
PYMICROGPT_INLINE Vec quad_max(Vec a) {
  const Register b = MM(max_ps)(a.r, MM(permute_ps)(a.r, 0xB1));
  return {MM(max_ps)(b, MM(permute_ps)(b, 0x4E))};
}
PYMICROGPT_INLINE Vec reduce4(Vec a, Vec b, Vec c, Vec d) {
  const Register ab = MM(add_ps)(MM(unpacklo_ps)(a.r, b.r), MM(unpackhi_ps)(a.r, b.r));
  const Register cd = MM(add_ps)(MM(unpacklo_ps)(c.r, d.r), MM(unpackhi_ps)(c.r, d.r));
  return {MM(add_ps)(MM(shuffle_ps)(ab, cd, 0x44), MM(shuffle_ps)(ab, cd, 0xEE))};
}
PYMICROGPT_INLINE Vec max4(Vec a, Vec b, Vec c, Vec d) {
  const Register ab = MM(max_ps)(MM(unpacklo_ps)(a.r, b.r), MM(unpackhi_ps)(a.r, b.r));
  const Register cd = MM(max_ps)(MM(unpacklo_ps)(c.r, d.r), MM(unpackhi_ps)(c.r, d.r));
  return {MM(max_ps)(MM(shuffle_ps)(ab, cd, 0x44), MM(shuffle_ps)(ab, cd, 0xEE))};
}

// Quad q of column[j]: element j of quad q of each argument.
struct Columns {
  Register column[4];
};
PYMICROGPT_INLINE Columns transpose_quads(Vec a, Vec b, Vec c, Vec d) {
  const Register ab0 = MM(unpacklo_ps)(a.r, b.r), ab1 = MM(unpackhi_ps)(a.r, b.r);
  const Register cd0 = MM(unpacklo_ps)(c.r, d.r), cd1 = MM(unpackhi_ps)(c.r, d.r);
  return {{MM(shuffle_ps)(ab0, cd0, 0x44), MM(shuffle_ps)(ab0, cd0, 0xEE),
           MM(shuffle_ps)(ab1, cd1, 0x44), MM(shuffle_ps)(ab1, cd1, 0xEE)}};
}

// Ticks of a counter of constant rate.
PYMICROGPT_INLINE uint64_t now() { return __rdtsc(); }

}  // namespace
}  // namespace microgpt

#undef MM
