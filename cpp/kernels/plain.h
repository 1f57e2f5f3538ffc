// Forward and backward of the model, derived by hand, in ordinary loops: no intrinsics, no vector
// types. The same source is the engine `scalar` (auto-vectoriser off), the engine `autovec` (on)
// and, in f64, the oracle of the kernel tests. docs/derivations.md derives every backward below.
//
// The N rows are the active positions of the batch, document after document; nothing is shared
// between documents. Matrices are row-major, weights (out, in) as in params.h.
//
// Everything is in an anonymous namespace and nothing comes from the STL: translation units
// compiled for different ISAs include this file, and the linker must never mix their copies.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../arena.h"
#include "../denormals.h"
#include "../engine.h"
#include "../params.h"

// How many floats fit the vectors that the compiler may use; 1 says that it may not vectorise.
#ifndef PYMICROGPT_LANES
#define PYMICROGPT_LANES 4
#endif

// Loops over a fixed number of lanes become vector code. clang unrolls them and then finds the
// vectors; gcc finds them only while the loop is still there.
#if defined(__GNUC__) && !defined(__clang__) && PYMICROGPT_LANES > 1
#define LANE_LOOP _Pragma("GCC unroll 1")
#else
#define LANE_LOOP
#endif

namespace microgpt {
namespace {

constexpr int kLanes = PYMICROGPT_LANES;
constexpr int kSumLanes = kLanes > 4 ? kLanes : 4;  // partial sums of a reduction
constexpr int kQueries = kLanes > 1 ? 8 : 2;        // queries that attention takes at a time

inline int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }
inline int least(int a, int b) { return a < b ? a : b; }

inline float square_root(float x) { return __builtin_sqrtf(x); }
inline double square_root(double x) { return __builtin_sqrt(x); }
inline float logarithm(float x) { return __builtin_logf(x); }
inline double logarithm(double x) { return __builtin_log(x); }

// exp(x) for x <= 0, within 1.2e-7 of it: 2^k e^r with |r| <= ln(2) / 2. Exactly 0 below -87.
inline float exponential(float x) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: its last bits count ones, so adding it rounds
  const float bounded = x < -87.0f ? -87.0f : x;
  const float shifted = bounded * 1.44269504f + magic;
  const float k = shifted - magic;
  const float r = (bounded - k * 0.693359375f) + k * 2.12194440e-4f;
  float e = 1.38145985e-3f;
  e = e * r + 8.36871703e-3f;
  e = e * r + 4.16683881e-2f;
  e = e * r + 1.66665206e-1f;
  e = e * r + 4.99999934e-1f;
  e = e * r + 1.0f;
  e = e * r + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return x < -87.0f ? 0.0f : e * power;
}
inline double exponential(double x) { return __builtin_exp(x); }

template <class Real>
inline void copy(Real* __restrict to, const Real* __restrict from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}
template <class Real>
inline void clear(Real* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = 0;
}

// f(0), ..., f(n - 1), whole vectors first. Left alone, compilers unroll such loops so far that the
// vector part is not reached at a width of 16.
template <class F>
PYMICROGPT_INLINE void for_each(int n, F f) {
  int i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) LANE_LOOP for (int j = 0; j < kSumLanes; ++j) f(i + j);
  for (; i < n; ++i) f(i);
}

// ---- Reductions, in kSumLanes partial results -------------------------------------------------

struct Sum {
  template <class Real>
  static Real of(Real a, Real b) {
    return a + b;
  }
};
struct Maximum {
  template <class Real>
  static Real of(Real a, Real b) {
    return a > b ? a : b;
  }
};

// The partial results become one.
template <class Op, int n = kSumLanes, class Real>
inline Real fold(Real* parts) {
  if constexpr (n > 1) {
    LANE_LOOP for (int j = 0; j < n / 2; ++j) parts[j] = Op::of(parts[j], parts[j + n / 2]);
    return fold<Op, n / 2>(parts);
  }
  return parts[0];
}

// sum_i a_i b_i
template <class Real>
inline Real dot(const Real* a, const Real* b, int n) {
  const int whole = n / kSumLanes * kSumLanes;
  Real rest = 0;
  for (int i = whole; i < n; ++i) rest += a[i] * b[i];
  if (whole == 0) return rest;
  Real parts[kSumLanes];
  LANE_LOOP for (int j = 0; j < kSumLanes; ++j) parts[j] = a[j] * b[j];
  for (int i = kSumLanes; i < whole; i += kSumLanes)
    LANE_LOOP for (int j = 0; j < kSumLanes; ++j) parts[j] += a[i + j] * b[i + j];
  return fold<Sum>(parts) + rest;
}

// ---- Matrix product ---------------------------------------------------------------------------

// What becomes of an element of the output, given what it holds and the sum that was computed.
struct Store {
  template <class Real>
  static Real apply(Real, Real sum) {
    return sum;
  }
};
struct Add {
  template <class Real>
  static Real apply(Real old, Real sum) {
    return old + sum;
  }
};
struct Relu {
  // NaN stays.
  template <class Real>
  static Real apply(Real, Real sum) {
    return sum < 0 ? 0 : sum;
  }
};
struct MaskByRelu {  // the old value is the activation, the new one its gradient
  template <class Real>
  static Real apply(Real old, Real sum) {
    return old > 0 ? sum : 0;
  }
};

// A matrix that is read element by element: (i, k) is at data[i * row + k * column].
template <class Real>
struct Elements {
  const Real* data;
  int row, column;
};

// One tile (R, W) of the product below, its sums in registers. Never inlined: in the middle of a
// large function gcc 12 leaves some of these loops scalar.
template <class Epilogue, int R, int W, class Real>
PYMICROGPT_NOINLINE void tile(Real* __restrict out, int ld_out, Elements<Real> a,
                              const Real* __restrict b, int ld_b, int depth) {
  Real sums[R][W];
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i) LANE_LOOP for (int j = 0; j < W; ++j) sums[i][j] = 0;
  for (int64_t k = 0; k < depth; ++k) {
    Real row[W];
    LANE_LOOP for (int j = 0; j < W; ++j) row[j] = b[k * ld_b + j];
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      const Real x = a.data[i * a.row + k * a.column];
      LANE_LOOP for (int j = 0; j < W; ++j) sums[i][j] += x * row[j];
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i)
    LANE_LOOP for (int j = 0; j < W; ++j) out[i * ld_out + j] =
        Epilogue::apply(out[i * ld_out + j], sums[i][j]);
}

// All rows of W columns.
template <class Epilogue, int W, class Real>
inline void panel(Real* out, int ld_out, Elements<Real> a, const Real* b, int ld_b, int rows,
                  int depth) {
  for (; rows >= 4; rows -= 4, out += 4 * ld_out, a.data += 4 * a.row)
    tile<Epilogue, 4, W>(out, ld_out, a, b, ld_b, depth);
  if (rows == 3) tile<Epilogue, 3, W>(out, ld_out, a, b, ld_b, depth);
  if (rows == 2) tile<Epilogue, 2, W>(out, ld_out, a, b, ld_b, depth);
  if (rows == 1) tile<Epilogue, 1, W>(out, ld_out, a, b, ld_b, depth);
}

// out (rows, columns) = a (rows, depth) b (depth, columns), through the epilogue: panels of two
// vectors of columns, so that those of b stay in L1; then narrower ones for what is left.
template <class Epilogue, class Real>
inline void product(Real* out, int ld_out, Elements<Real> a, const Real* b, int ld_b, int rows,
                    int depth, int columns) {
  int j = 0;
  for (; j + 2 * kLanes <= columns; j += 2 * kLanes)
    panel<Epilogue, 2 * kLanes>(out + j, ld_out, a, b + j, ld_b, rows, depth);
  if (kLanes > 1 && j + kLanes <= columns) {
    panel<Epilogue, kLanes>(out + j, ld_out, a, b + j, ld_b, rows, depth);
    j += kLanes;
  }
  for (; kLanes > 4 && j + 4 <= columns; j += 4)
    panel<Epilogue, 4>(out + j, ld_out, a, b + j, ld_b, rows, depth);
  for (; j < columns; ++j) panel<Epilogue, 1>(out + j, ld_out, a, b + j, ld_b, rows, depth);
}

// ---- Transposition, in blocks of 8 rows: a buffer makes the stores of both steps contiguous ----

template <int W, class Real>
inline void transpose_block(Real* __restrict out, int ld_out, const Real* __restrict in,
                            int ld_in) {  // (W, 8) = (8, W)
  Real block[W][8];
  LANE_LOOP for (int j = 0; j < W; ++j) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) block[j][i] = in[i * ld_in + j];
  }
  for (int j = 0; j < W; ++j)
    LANE_LOOP for (int i = 0; i < 8; ++i) out[j * ld_out + i] = block[j][i];
}

// out (columns, ld_out) = in (rows, ld_in) transposed
template <class Real>
void transpose(Real* out, int ld_out, const Real* in, int ld_in, int rows, int columns) {
  int i = 0;
  for (; i + 8 <= rows; i += 8) {
    const Real* from = in + i * ld_in;
    int j = 0;
    for (; j + 16 <= columns; j += 16)
      transpose_block<16>(out + j * ld_out + i, ld_out, from + j, ld_in);
    for (; j + 8 <= columns; j += 8)
      transpose_block<8>(out + j * ld_out + i, ld_out, from + j, ld_in);
    for (; j < columns; ++j)
      for (int k = 0; k < 8; ++k) out[j * ld_out + i + k] = from[k * ld_in + j];
  }
  for (; i < rows; ++i)
    for (int j = 0; j < columns; ++j) out[j * ld_out + i] = in[i * ld_in + j];
}

// ---- Linear: y (N, O) = x (N, I) w^T, w (O, I) ------------------------------------------------

template <class Epilogue, class Real>
void linear(Real* y, const Real* x, const Real* w_transposed, int N, int O, int I) {
  product<Epilogue>(y, O, Elements<Real>{x, I, 1}, w_transposed, O, N, I, O);
}

// dx = dy w
template <class Epilogue, class Real>
void linear_backward_input(Real* dx, const Real* dy, int ld_dy, const Real* w, int N, int O,
                           int I) {
  product<Epilogue>(dx, I, Elements<Real>{dy, ld_dy, 1}, w, I, N, O, I);
}

// dw = dy^T x
template <class Real>
void linear_backward_weight(Real* dw, const Real* dy, int ld_dy, const Real* x, int N, int O,
                            int I) {
  product<Store>(dw, I, Elements<Real>{dy, 1, ld_dy}, x, I, O, N, I);
}

// ---- RMSNorm: y = r x, r = (mean(x^2) + 1e-5)^-1/2 --------------------------------------------

template <class Real>
void rmsnorm(Real* __restrict y, Real* __restrict r, const Real* __restrict x, int N,
             int C) {  // y, x (N, C); r (N,)
  for (int n = 0; n < N; ++n, y += C, x += C) {
    const Real factor = r[n] = 1 / square_root(dot(x, x, C) / C + Real(1e-5));
    for_each(C, [&](int c) { y[c] = factor * x[c]; });
  }
}

// dx += r (dy - y mean(dy y))
template <class Real>
void rmsnorm_backward(Real* __restrict dx, const Real* __restrict dy, const Real* __restrict y,
                      const Real* __restrict r, int N, int C) {
  for (int n = 0; n < N; ++n, dx += C, dy += C, y += C) {
    const Real factor = r[n], mean = dot(dy, y, C) / C;
    for_each(C, [&](int c) { dx[c] += factor * (dy[c] - mean * y[c]); });
  }
}

// ---- Embedding: x = wte[token] + wpe[position] ------------------------------------------------

template <class Real>
void embedding(Real* x, const Real* wte, const Real* wpe, const int* token, const int* position,
               int N, int C) {  // x (N, C), wte (V, C), wpe (T, C)
  for (int n = 0; n < N; ++n, x += C) {
    const Real* __restrict te = wte + token[n] * C;
    const Real* __restrict pe = wpe + position[n] * C;
    for_each(C, [&](int c) { x[c] = te[c] + pe[c]; });
  }
}

// dwte[token] += dx, dwpe[position] += dx
template <class Real>
void embedding_backward(Real* dwte, Real* dwpe, const Real* dx, const int* token,
                        const int* position, int N, int C) {
  for (int n = 0; n < N; ++n, dx += C) {
    Real* __restrict dte = dwte + token[n] * C;
    Real* __restrict dpe = dwpe + position[n] * C;
    for_each(C, [&](int c) { dte[c] += dx[c]; });
    for_each(C, [&](int c) { dpe[c] += dx[c]; });
  }
}

// ---- Causal attention, for every document and head --------------------------------------------
// s_ij = q_i . k_j / sqrt(D) for j <= i, p_i = softmax_j(s_i), y_i = sum_j p_ij v_j
//
// The lanes are kQueries queries of a document, so that the softmax over the keys needs no sum
// across lanes: s and p are (keys, kQueries), q and y are transposed to (C, kQueries). A block that
// reaches past the end of its document takes the rows that follow as queries too. Their lanes touch
// no other lane, what they write is overwritten by the next document, and after the last document
// the buffers have kQueries rows to spare.

// s becomes p in place: softmax of scale * s over the keys that each query may see.
template <class Real>
inline void causal_softmax(Real* __restrict s, int keys, int first_query, Real scale) {
  Real largest[kQueries], sum[kQueries];
  LANE_LOOP for (int i = 0; i < kQueries; ++i) largest[i] = s[i];
  for (int j = 1; j < keys; ++j) LANE_LOOP for (int i = 0; i < kQueries; ++i) {
      const Real score = s[j * kQueries + i];
      const Real seen = j <= first_query + i ? score : Real(-1e30);
      s[j * kQueries + i] = seen;
      largest[i] = Maximum::of(seen, largest[i]);
    }
  LANE_LOOP for (int i = 0; i < kQueries; ++i) sum[i] = 0;
  for (int j = 0; j < keys; ++j) LANE_LOOP for (int i = 0; i < kQueries; ++i) {
      const Real e = exponential(scale * (s[j * kQueries + i] - largest[i]));
      s[j * kQueries + i] = e;
      sum[i] += e;
    }
  LANE_LOOP for (int i = 0; i < kQueries; ++i) sum[i] = 1 / sum[i];
  for (int j = 0; j < keys; ++j)
    LANE_LOOP for (int i = 0; i < kQueries; ++i) s[j * kQueries + i] *= sum[i];
}

// ds_ij = scale p_ij (dp_ij - sum_j dp_ij p_ij); dp becomes ds in place
template <class Real>
inline void causal_softmax_backward(Real* __restrict dp, const Real* __restrict p, int keys,
                                    Real scale) {
  Real mean[kQueries];
  LANE_LOOP for (int i = 0; i < kQueries; ++i) mean[i] = dp[i] * p[i];
  for (int j = 1; j < keys; ++j)
    LANE_LOOP for (int i = 0; i < kQueries; ++i) mean[i] +=
        dp[j * kQueries + i] * p[j * kQueries + i];
  for (int j = 0; j < keys; ++j)
    LANE_LOOP for (int i = 0; i < kQueries; ++i) dp[j * kQueries + i] =
        scale * p[j * kQueries + i] * (dp[j * kQueries + i] - mean[i]);
}

template <class Real>
void attention(Real* y, Real* p, Real* q_lanes, Real* y_lanes, const Real* qkv, const int* start,
               int B, const Config& c) {  // y (N, C), qkv (N, 3C)
  const int C = c.n_embd, D = c.head_dim(), ld = 3 * C;
  const Real scale = 1 / square_root(Real(D));
  for (int doc = 0; doc < B; ++doc)
    for (int64_t first = start[doc], row = first; row < start[doc + 1]; row += kQueries) {
      const int query = int(row - first);  // position of the first query
      const int keys = least(start[doc + 1] - start[doc], query + kQueries);
      transpose(q_lanes, kQueries, qkv + row * ld, ld, kQueries, C);
      for (int head = 0; head < C; head += D, p += keys * kQueries) {
        const Real* const k = qkv + first * ld + C + head;  // (keys, D)
        const Real* const v = k + C;                        // (keys, D)
        panel<Store, kQueries>(p, kQueries, Elements<Real>{k, ld, 1}, q_lanes + head * kQueries,
                               kQueries, keys, D);
        causal_softmax(p, keys, query, scale);
        panel<Store, kQueries>(y_lanes + head * kQueries, kQueries, Elements<Real>{v, 1, ld}, p,
                               kQueries, D, keys);
      }
      transpose(y + row * C, C, y_lanes, kQueries, C, kQueries);
    }
}

// dp_ij = dy_i . v_j, dv_j = sum_i p_ij dy_i, dq_i = sum_j ds_ij k_j, dk_j = sum_i ds_ij q_i
template <class Real>
void attention_backward(Real* dqkv, const Real* dy, const Real* p, Real* ds, Real* dq_lanes,
                        Real* dy_lanes, const Real* qkv, const int* start, int B, const Config& c) {
  const int C = c.n_embd, D = c.head_dim(), ld = 3 * C;
  const Real scale = 1 / square_root(Real(D));
  clear(dqkv, int64_t{start[B]} * ld);
  for (int doc = 0; doc < B; ++doc)
    for (int64_t first = start[doc], row = first; row < start[doc + 1]; row += kQueries) {
      const int query = int(row - first);  // position of the first query
      const int keys = least(start[doc + 1] - start[doc], query + kQueries);
      transpose(dy_lanes, kQueries, dy + row * C, C, kQueries, C);
      for (int head = 0; head < C; head += D, p += keys * kQueries) {
        const Real* const k = qkv + first * ld + C + head;  // (keys, D)
        const Real* const v = k + C;                        // (keys, D)
        const Real* const q = qkv + row * ld + head;        // (keys - query, D)
        const Real* const dout = dy + row * C + head;       // (keys - query, D)
        Real* const dk = dqkv + first * ld + C + head;
        Real* const dv = dk + C;
        panel<Store, kQueries>(ds, kQueries, Elements<Real>{v, ld, 1}, dy_lanes + head * kQueries,
                               kQueries, keys, D);
        causal_softmax_backward(ds, p, keys, scale);
        product<Add>(dv, ld, Elements<Real>{p, kQueries, 1}, dout, C, keys, keys - query, D);
        product<Add>(dk, ld, Elements<Real>{ds, kQueries, 1}, q, ld, keys, keys - query, D);
        panel<Store, kQueries>(dq_lanes + head * kQueries, kQueries, Elements<Real>{k, 1, ld}, ds,
                               kQueries, D, keys);
      }
      transpose(dqkv + row * ld, ld, dq_lanes, kQueries, C, kQueries);
    }
}

// ---- Loss: sum_n weight_n (-log softmax(logits_n)[target_n]) ----------------------------------

// Returns the loss; the logits (N, ld) become probabilities in place, 0 in columns V .. ld.
template <class Real>
double cross_entropy(Real* __restrict z, int ld, const int* target, const Real* weight, int N,
                     int V) {
  double loss = 0;
  for (int n = 0; n < N; ++n, z += ld) {
    Real parts[kSumLanes];
    LANE_LOOP for (int j = 0; j < kSumLanes; ++j) parts[j] = z[0];
    for (int v = 0; v < ld; v += kSumLanes) LANE_LOOP for (int j = 0; j < kSumLanes; ++j) {
        const Real logit = z[v + j];
        parts[j] = Maximum::of(v + j < V ? logit : parts[j], parts[j]);
      }
    const Real largest = fold<Maximum>(parts), of_target = z[target[n]] - largest;

    LANE_LOOP for (int j = 0; j < kSumLanes; ++j) parts[j] = 0;
    for (int v = 0; v < ld; v += kSumLanes) LANE_LOOP for (int j = 0; j < kSumLanes; ++j) {
        const Real e = exponential(z[v + j] - largest);
        z[v + j] = v + j < V ? e : 0;
        parts[j] += z[v + j];
      }
    const Real sum = fold<Sum>(parts), inverse = 1 / sum;
    loss += double(weight[n]) * (logarithm(sum) - of_target);
    for_each(ld, [&](int v) { z[v] *= inverse; });
  }
  return loss;
}

// dlogits = weight (p - onehot(target)), in place
template <class Real>
void cross_entropy_backward(Real* __restrict p, int ld, const int* target, const Real* weight,
                            int N) {
  for (int n = 0; n < N; ++n, p += ld) {
    const Real factor = weight[n];
    for_each(ld, [&](int v) { p[v] *= factor; });
    p[target[n]] -= factor;
  }
}

// ---- Adam: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= rate m^ / (sqrt(v^) + eps) ----

template <class Real>
void adam(Real* __restrict p, Real* __restrict m, Real* __restrict v, const Real* __restrict g,
          int64_t count, const AdamStep& a) {
  // sqrt(v / c2) + eps = (sqrt(v) + eps sqrt(c2)) / sqrt(c2): the corrections leave the loop
  const double root = __builtin_sqrt(a.correction2);
  const Real rate = Real(a.rate * root / a.correction1), eps = Real(a.eps * root);
  const Real b1 = Real(a.beta1), b2 = Real(a.beta2), c1 = Real(1 - a.beta1), c2 = Real(1 - a.beta2);
  for (int64_t i = 0; i < count; ++i) {
    m[i] = b1 * m[i] + c1 * g[i];
    v[i] = b2 * v[i] + c2 * g[i] * g[i];
    p[i] -= rate * m[i] / (square_root(v[i]) + eps);
  }
}

// ---- The model --------------------------------------------------------------------------------

template <class Real>
struct Model {
  // A second copy of the weights, (in, out): the forward too then has outputs as its lanes.
  struct Transposed {
    Real* qkv;      // (C, 3C)
    Real* attn_wo;  // (C, C)
    Real* mlp_fc1;  // (C, 4C)
    Real* mlp_fc2;  // (4C, C)
  };
  // What the backward needs of one layer.
  struct Activations {
    Real* a;    // (N, C) first norm
    Real* ra;   // (N,) its factors
    Real* qkv;  // (N, 3C)
    Real* p;    // attention probabilities: document, head, block of queries, (keys, kQueries)
    Real* y;    // (N, C) attention output
    Real* m;    // (N, C) second norm
    Real* rm;   // (N,) its factors
    Real* h;    // (N, 4C) after ReLU; the backward puts its gradient there
  };

  Config config;
  int64_t count;  // of parameters
  int ld_logits;  // columns of logits: V, rounded up to whole vectors
  size_t bytes;   // of the block

  Real *param, *m, *v;       // (count,) each, in the layout of params.h
  Real *grad, *used;         // the same: gradients to be read, and those that a step makes and uses
  Real* lm_head_transposed;  // (C, ld_logits)
  Transposed* transposed;    // (L,)

  int B, N;                        // documents and rows of the batch at hand
  int* start;                      // (B + 1,) document d has rows start[d] .. start[d + 1]
  int *token, *position, *target;  // (N,)
  Real* weight;                    // (N,) 1 / (B * positions of the document)

  Real *x0, *r0;        // (N, C), (N,) norm of the embedding
  Activations* layers;  // (L,)
  Real* x;              // (N, C) residual stream
  Real* logits;         // (N, ld_logits), then probabilities, then the gradient of the logits
  Real *dx, *dbranch;   // (N, C) gradient of the residual stream and of what a branch adds to it
  Real* dqkv;           // (N, 3C)
  Real *q_lanes, *y_lanes;  // (C, kQueries) of attention, forward and backward
  Real* ds;                 // (T, kQueries) of one head
};

// f(copy, first tensor of it, outs, ins) for the second copies of a layer's matrices.
template <class Real, class F>
void each_transposed(typename Model<Real>::Transposed& t, const Config& c, F f) {
  static_assert(static_cast<int>(Param::attn_wk) == static_cast<int>(Param::attn_wq) + 1 &&
                    static_cast<int>(Param::attn_wv) == static_cast<int>(Param::attn_wq) + 2,
                "wq, wk and wv of a layer are read as one matrix");
  const auto copy_of = [&](Real*& copy, Param first, int tensors) PYMICROGPT_INLINED {
    const TensorKind kind = kind_of(first);
    f(copy, first, tensors * static_cast<int>(length_of(kind.rows, c)),
      static_cast<int>(length_of(kind.columns, c)));
  };
  copy_of(t.qkv, Param::attn_wq, 3);
  copy_of(t.attn_wo, Param::attn_wo, 1);
  copy_of(t.mlp_fc1, Param::mlp_fc1, 1);
  copy_of(t.mlp_fc2, Param::mlp_fc2, 1);
}

// Lays a model out in the block at base, itself first; without a block its size is what counts.
template <class Real>
Model<Real> lay_out(char* base, const Setup& setup) {
  using Activations = typename Model<Real>::Activations;
  using Transposed = typename Model<Real>::Transposed;
  const Config& c = setup.config;
  const int64_t C = c.n_embd, T = c.block_size, B = setup.batch_size;
  const int64_t N = B * T + kQueries;  // with the rows that attention may touch past the last
  Arena arena{base};
  arena.take<Model<Real>>(1);

  Model<Real> g = {};
  g.config = c;
  g.count = parameter_count(c);
  g.ld_logits = round_up(c.vocab_size, kSumLanes);
  g.param = arena.take<Real>(g.count);
  g.grad = arena.take<Real>(g.count);
  g.used = arena.take<Real>(g.count);
  g.m = arena.take<Real>(g.count);
  g.v = arena.take<Real>(g.count);
  g.lm_head_transposed = arena.take<Real>(C * g.ld_logits);
  g.start = arena.take<int>(B + 1);
  g.token = arena.take<int>(N);
  g.position = arena.take<int>(N);
  g.target = arena.take<int>(N);
  g.weight = arena.take<Real>(N);
  g.x0 = arena.take<Real>(N * C);
  g.r0 = arena.take<Real>(N);
  g.x = arena.take<Real>(N * C);
  g.logits = arena.take<Real>(N * g.ld_logits);
  g.dx = arena.take<Real>(N * C);
  g.dbranch = arena.take<Real>(N * C);
  g.dqkv = arena.take<Real>(N * 3 * C);
  g.q_lanes = arena.take<Real>(C * kQueries);
  g.y_lanes = arena.take<Real>(C * kQueries);
  g.ds = arena.take<Real>(T * kQueries);
  g.transposed = arena.take<Transposed>(c.n_layer);
  g.layers = arena.take<Activations>(c.n_layer);
  for (int i = 0; i < c.n_layer; ++i) {
    Transposed t;
    each_transposed<Real>(t, c, [&](Real*& copy, Param, int outs, int ins) {
      copy = arena.take<Real>(int64_t{outs} * ins);
    });
    Activations a;
    a.a = arena.take<Real>(N * C);
    a.ra = arena.take<Real>(N);
    a.qkv = arena.take<Real>(N * 3 * C);
    a.p = arena.take<Real>(B * c.n_head * round_up(c.block_size, kQueries) * T);
    a.y = arena.take<Real>(N * C);
    a.m = arena.take<Real>(N * C);
    a.rm = arena.take<Real>(N);
    a.h = arena.take<Real>(N * 4 * C);
    if (base) {
      g.transposed[i] = t;
      g.layers[i] = a;
    }
  }
  g.bytes = arena.used;
  return g;
}

// The second copy of the weights follows the first.
template <class Real>
void refresh_transposed(Model<Real>& g) {
  const Layout at(g.config);
  const int C = g.config.n_embd, V = g.config.vocab_size;
  const Real* const w = g.param;
  transpose(g.lm_head_transposed, g.ld_logits, w + at.lm_head(), C, V, C);
  for (int i = 0; i < g.config.n_layer; ++i) {
    const auto refresh = [&](Real* copy, Param p, int outs, int ins) PYMICROGPT_INLINED {
      transpose(copy, outs, w + at(p, i), ins, outs, ins);
    };
    each_transposed<Real>(g.transposed[i], g.config, refresh);
  }
}

// Documents -> rows. The batch has at most the batch_size documents of the setup.
template <class Real>
void gather(Model<Real>& g, const Batch& batch) {
  g.B = batch.size;
  g.N = 0;
  for (int d = 0; d < g.B; ++d) {
    const int32_t* tokens = batch.documents.begin(batch.at(d));
    const int n = batch.documents.positions(batch.at(d), g.config.block_size);
    g.start[d] = g.N;
    for (int t = 0; t < n; ++t, ++g.N) {
      g.token[g.N] = tokens[t];
      g.position[g.N] = t;
      g.target[g.N] = tokens[t + 1];
      g.weight[g.N] = Real(1) / (Real(g.B) * n);
    }
  }
  g.start[g.B] = g.N;
}

// Returns the loss of the gathered batch.
template <class Real>
double forward(Model<Real>& g) {
  const Layout at(g.config);
  const int N = g.N, C = g.config.n_embd, V = g.config.vocab_size;
  const Real* const w = g.param;

  embedding(g.x, w + at.wte(), w + at.wpe(), g.token, g.position, N, C);
  rmsnorm(g.x0, g.r0, g.x, N, C);
  copy(g.x, g.x0, int64_t{N} * C);
  for (int i = 0; i < g.config.n_layer; ++i) {
    const auto& t = g.transposed[i];
    const auto& s = g.layers[i];
    rmsnorm(s.a, s.ra, g.x, N, C);
    linear<Store>(s.qkv, s.a, t.qkv, N, 3 * C, C);
    attention(s.y, s.p, g.q_lanes, g.y_lanes, s.qkv, g.start, g.B, g.config);
    linear<Add>(g.x, s.y, t.attn_wo, N, C, C);
    rmsnorm(s.m, s.rm, g.x, N, C);
    linear<Relu>(s.h, s.m, t.mlp_fc1, N, 4 * C, C);
    linear<Add>(g.x, s.h, t.mlp_fc2, N, C, 4 * C);
  }
  linear<Store>(g.logits, g.x, g.lm_head_transposed, N, g.ld_logits, C);
  return cross_entropy(g.logits, g.ld_logits, g.target, g.weight, N, V);
}

// The forward, reversed: the gradient of every parameter into dw (count,).
template <class Real>
void backward(Model<Real>& g, Real* dw) {
  const Layout at(g.config);
  const int N = g.N, C = g.config.n_embd, V = g.config.vocab_size, T = g.config.block_size;
  const Real* const w = g.param;

  cross_entropy_backward(g.logits, g.ld_logits, g.target, g.weight, N);
  linear_backward_weight(dw + at.lm_head(), g.logits, g.ld_logits, g.x, N, V, C);
  linear_backward_input<Store>(g.dx, g.logits, g.ld_logits, w + at.lm_head(), N, V, C);
  for (int i = g.config.n_layer - 1; i >= 0; --i) {
    const auto& s = g.layers[i];
    linear_backward_weight(dw + at.mlp_fc2(i), g.dx, C, s.h, N, C, 4 * C);
    linear_backward_input<MaskByRelu>(s.h, g.dx, C, w + at.mlp_fc2(i), N, C, 4 * C);
    linear_backward_weight(dw + at.mlp_fc1(i), s.h, 4 * C, s.m, N, 4 * C, C);
    linear_backward_input<Store>(g.dbranch, s.h, 4 * C, w + at.mlp_fc1(i), N, 4 * C, C);
    rmsnorm_backward(g.dx, g.dbranch, s.m, s.rm, N, C);
    linear_backward_weight(dw + at.attn_wo(i), g.dx, C, s.y, N, C, C);
    linear_backward_input<Store>(g.dbranch, g.dx, C, w + at.attn_wo(i), N, C, C);
    attention_backward(g.dqkv, g.dbranch, s.p, g.ds, g.q_lanes, g.y_lanes, s.qkv, g.start, g.B,
                       g.config);
    linear_backward_weight(dw + at.attn_wq(i), g.dqkv, 3 * C, s.a, N, 3 * C, C);
    linear_backward_input<Store>(g.dbranch, g.dqkv, 3 * C, w + at.attn_wq(i), N, 3 * C, C);
    rmsnorm_backward(g.dx, g.dbranch, s.a, s.ra, N, C);
  }
  clear(g.dbranch, int64_t{N} * C);
  rmsnorm_backward(g.dbranch, g.dx, g.x0, g.r0, N, C);
  clear(dw + at.wte(), int64_t{V} * C);
  clear(dw + at.wpe(), int64_t{T} * C);
  embedding_backward(dw + at.wte(), dw + at.wpe(), g.dbranch, g.token, g.position, N, C);
}

// ---- The functions of a Kernels table ---------------------------------------------------------

template <class Real>
struct Plain {
  static Model<Real>& model(void* state) { return *static_cast<Model<Real>*>(state); }

  static Real* slot(const Model<Real>& g, Slot slot) {
    switch (slot) {
      case Slot::parameter:
        return g.param;
      case Slot::first_moment:
        return g.m;
      case Slot::second_moment:
        return g.v;
      case Slot::gradient:
        return g.grad;
    }
    return nullptr;
  }

  static size_t bytes(const Setup& setup) { return lay_out<Real>(nullptr, setup).bytes; }

  static void create(void* state, const Setup& setup) {
    model(state) = lay_out<Real>(static_cast<char*>(state), setup);
  }

  static void write(void* state, Slot which, const double* natural) {
    Model<Real>& g = model(state);
    Real* const values = slot(g, which);
    for (int64_t i = 0; i < g.count; ++i) values[i] = Real(natural[i]);
    if (which == Slot::parameter) refresh_transposed(g);
  }

  static void read(const void* state, Slot which, double* natural) {
    const Model<Real>& g = *static_cast<const Model<Real>*>(state);
    const Real* const values = slot(g, which);
    for (int64_t i = 0; i < g.count; ++i) natural[i] = double(values[i]);
  }

  static double loss(void* state, const Batch& batch) {
    gather(model(state), batch);
    return forward(model(state));
  }

  static double gradient(void* state, const Batch& batch) {
    const double loss = Plain::loss(state, batch);
    backward(model(state), model(state).grad);
    return loss;
  }

  static double step(void* state, const Batch& batch, const AdamStep& a) {
    const double loss = Plain::loss(state, batch);
    Model<Real>& g = model(state);
    backward(g, g.used);
    adam(g.param, g.m, g.v, g.used, g.count, a);
    refresh_transposed(g);
    return loss;
  }

  static double run(void* state, const Call& call) {
    const FlushDenormals flush;
    if (call.adam != nullptr) return step(state, *call.batch, *call.adam);
    if (call.backward) return gradient(state, *call.batch);
    return loss(state, *call.batch);
  }
};

}  // namespace
}  // namespace microgpt
