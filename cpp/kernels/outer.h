// What a matrix unit does for the kernels: a product as a sum of outer products, in tiles of
// whatever size the unit has. An instruction set that has one specialises UnitOf for its Vec
// (isa/sme.cpp).
#pragma once
#include <cstdint>

namespace microgpt {
namespace {

// y[r][c] = sum over n < depth of a[n][r] b[n][c], by fused multiply-adds in ascending n, and so to
// the bit what the register tiles of matrix.h compute. Addresses count in floats, and a panel is
// sixteen columns:
struct OuterProducts {
  int rows, panels, depth;
  const float* a;  // (n, r) at n a_step + r / 16 a_panel + r % 16 or, by_row, n and r the other way
  int64_t a_step, a_panel;
  bool by_row;
  const float* b;  // (n, c) at n b_step + c / 16 b_panel + c % 16
  int64_t b_step, b_panel;
  float* y;  // (r, c) at r y_step + c / 16 y_panel + c % 16
  int64_t y_step, y_panel;
};

struct NoUnit {
  static constexpr bool there = false;
  static void sum(const OuterProducts&) {}
};
template <class V>
struct UnitOf {
  using type = NoUnit;
};

}  // namespace
}  // namespace microgpt
