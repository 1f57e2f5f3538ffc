// Loops that do nothing but multiply-adds, or loads: the roofs that kernels are held against.
#pragma once
#include "vec16.h"

namespace microgpt {
namespace {

// Keeps a result alive without storing it anywhere that matters.
PYMICROGPT_INLINE void keep(Vec v) {
  float sink[Vec::lanes];
  v.store(sink);
  volatile float first = sink[0];
  (void)first;
}

// As many independent multiply-adds per round as a register tile has; returns the FLOPs done.
double fma_loop(int64_t rounds) {
  constexpr int N = Vec::accumulators;
  Vec sum[N];
  PYMICROGPT_UNROLL for (int i = 0; i < N; ++i) sum[i] = Vec::set(static_cast<float>(i));
  const Vec x = Vec::set(0.999f), y = Vec::set(0.001f);
  for (int64_t r = 0; r < rounds; ++r)
    PYMICROGPT_UNROLL for (int i = 0; i < N; ++i) sum[i] = fma(sum[i], x, y);
  Vec total = sum[0];
  PYMICROGPT_UNROLL for (int i = 1; i < N; ++i) total = total + sum[i];
  keep(total);
  return 2.0 * N * Vec::lanes * static_cast<double>(rounds);
}

// Reads `floats` (a multiple of 8 vectors) `rounds` times; returns the bytes read.
double read_loop(const float* data, int64_t floats, int64_t rounds) {
  constexpr int N = 8;
  Vec sum[N];
  PYMICROGPT_UNROLL for (int i = 0; i < N; ++i) sum[i] = Vec::set(0.0f);
  for (int64_t r = 0; r < rounds; ++r)
    for (int64_t at = 0; at < floats; at += N * Vec::lanes)
      PYMICROGPT_UNROLL for (int i = 0; i < N; ++i)
        sum[i] = sum[i] + Vec::load(data + at + i * Vec::lanes);
  Vec total = sum[0];
  PYMICROGPT_UNROLL for (int i = 1; i < N; ++i) total = total + sum[i];
  keep(total);
  return 4.0 * static_cast<double>(floats) * static_cast<double>(rounds);
}

}  // namespace
}  // namespace microgpt
