// Causal attention of long documents: the same as in attention.h, by products of tiles of queries and
// keys, with rows by document and no prefixes shared. Probabilities are not kept: backward computes
// them again from the logarithm of their sum, so that memory grows with the context, not its square.
//
// Features of a head fill panels of their own. A block of queries has a strip of scores, with queries
// in the lanes: (query panels, keys, 16). Keys after the last query of a panel are left out, those
// within it masked.
#pragma once
#include "attention.h"

namespace microgpt {
namespace {

constexpr int kLongContext = 64;  // from here on tiles are faster
constexpr int kQueries = 64;      // of a block

// Whether attention goes by tiles: a head must fill most of a panel, and code need not be small.
bool tiled(const Config& c) {
  return !V::compact && c.block_size >= kLongContext && c.head_dim() >= 12;
}

// What one thread works with.
struct TileScratch {
  Panels q, dout;    // (query panels, head features, 16 queries): transposed
  Panels p, ds;      // (query panels, keys, 16 queries): scores, then probabilities; their gradients

  static int64_t floats(const Config& c) {
    return 2 * int64_t{kQueries} * (panels_of(c.head_dim()) * kPanel + strip(c));
  }
  PYMICROGPT_INLINE static int64_t strip(const Config& c) { return (panels_of(c.block_size) + 1) * kPanel; }
  TileScratch(const Config& c, float* data) {
    const int64_t features = panels_of(c.head_dim()) * kPanel, keys = strip(c);
    const auto take = [&](int64_t rows) {
      const Panels piece{data, rows * kPanel};
      data += rows * kQueries;
      return piece;
    };
    q = take(features);
    dout = take(features);
    p = take(keys);
    ds = take(keys);
  }
};

// Panels whose products take rows one by one: the last panel may be cut anywhere.
struct CutPanels : Panels {
  static constexpr bool paired = false;
};

// y += product
struct Add : Output {
  PYMICROGPT_INLINE explicit Add(Panels to) : Output{to} {}
  PYMICROGPT_INLINE void operator()(int n, int p, const Row& sum) const {
    (Row::load(partial(n, p)) + sum).store(partial(n, p));
  }
};

// A block of queries of one head of a document.
struct QueryBlock {
  const Attention& a;
  TileScratch scratch;
  int head, row, first, size;  // row: the first one of the document; first: query, in it

  // Panels of this head in an array of q, k and v, or of one of them, from row `from` of the document.
  PYMICROGPT_INLINE Panels of_head(Panels x, int third, int from) const {
    const int panel = third * a.heads.panels() + head * a.heads.chunks;
    return {x.at(panel, int64_t{row + from} * kPanel), x.stride};
  }
  PYMICROGPT_INLINE int panels() const { return panels_of(size); }
  // Queries of a panel of them, and keys that they attend to.
  PYMICROGPT_INLINE int queries(int p) const { return size - p * kPanel < kPanel ? size - p * kPanel : kPanel; }
  PYMICROGPT_INLINE int keys(int p) const { return first + p * kPanel + queries(p); }
};

// Rows of x (features, rows) transposed: the queries of the block from `from` on.
PYMICROGPT_INLINE void transpose_queries(const QueryBlock& b, Panels to, Panels x) {
  transpose_rows(to, b.of_head(x, 0, b.first), b.a.heads.chunks, 0, b.panels());
}

// s[q][j] = x[j] . y[q] for the keys j that a panel of queries attends to; y is transposed.
void tile_scores(const QueryBlock& b, Panels s, Panels x, Panels y) {
  const CutPanels keys{x};
  const int D = b.a.heads.head_dim;
  if (b.first > 0) product(keys, D, y, b.panels(), {0, b.first}, Store{s});
  for (int p = 0; p < b.panels(); ++p)
    product(keys, D, Panels{y.at(p, 0), y.stride}, 1, {b.first, b.keys(p)},
            Store{Panels{s.at(p, 0), s.stride}});
}

// y[q] = scale[q] * sum over the keys j of s[q][j] x[j]
void tile_values(const QueryBlock& b, Panels s, Panels x, Panels y, const float* scale) {
  const auto rows_by = [&](auto P, int panel) {
    constexpr int fit = V::accumulators / (P.value * kVectors), most = fit < kPanel ? fit : kPanel;
    for (int p = 0; p < b.panels(); ++p)
      split_evenly(b.queries(p), most, [&](int r, int some) {
        with_up_to<most>(some, [&](auto R) {
          V sum[R.value][P.value * kVectors];
          PYMICROGPT_UNROLL for (int i = 0; i < R.value; ++i)
            PYMICROGPT_UNROLL for (int u = 0; u < P.value * kVectors; ++u) sum[i][u] = V::set(0.0f);
          const int query = p * kPanel + r;
          outer_products<R.value, P.value>(sum, x, panel, s, query, {0, b.keys(p)});
          PYMICROGPT_UNROLL for (int i = 0; i < R.value; ++i)
            PYMICROGPT_UNROLL for (int c = 0; c < P.value; ++c)
              (row_of(sum[i], c) * Row::set(scale[query + i]))
                  .store(y.at(panel + c, int64_t{query + i} * kPanel));
        });
      });
  };
  split_evenly(b.a.heads.chunks, V::tile_panels, [&](int panel, int some) {
    with_up_to<V::tile_panels>(some, [&](auto P) { rows_by(P, panel); });
  });
}

// y[j] += sum over the queries q that attend to key j of s[q][j] x[q]
void tile_keys(const QueryBlock& b, Panels s, Panels x, Panels y) {
  const auto add = [&](int p, Span keys) {  // queries from panel p on
    product(CutPanels{{s.at(p, 0), s.stride}}, b.size - p * kPanel,
            Panels{x.at(0, int64_t{p} * kPanel * kPanel), x.stride}, b.a.heads.chunks, keys, Add{y});
  };
  if (b.first > 0) add(0, {0, b.first});
  for (int p = 0; p < b.panels(); ++p) add(p, {b.first + p * kPanel, b.keys(p)});
}

// Scores of the keys within a panel of queries: minus infinity where the key comes after the query.
PYMICROGPT_INLINE void mask_later(const QueryBlock& b, int p, float* s) {
  constexpr float mask[2 * kPanel] = {kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf,
                                      kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf,
                                      kMinusInf, kMinusInf, kMinusInf, kMinusInf};
  for (int i = 1; i < b.queries(p); ++i) {
    float* row = s + int64_t{b.first + p * kPanel + i} * kPanel;
    (Row::load(row) + Row::load(mask + kPanel - i)).store(row);
  }
}

// s_j = q . k_j / sqrt(D);  p = softmax(s);  out = sum over j of p_j v_j
void forward_block(const QueryBlock& b, float* lse) {
  const TileScratch& t = b.scratch;
  const Row scale = Row::set(1.0f / __builtin_sqrtf(static_cast<float>(b.a.heads.head_dim)));
  transpose_queries(b, t.q, b.a.qkv);
  tile_scores(b, t.p, b.of_head(b.a.qkv, 1, 0), t.q);
  float inverse[kQueries];
  for (int p = 0; p < b.panels(); ++p) {
    float* s = t.p.at(p, 0);
    float* const end = s + int64_t{b.keys(p)} * kPanel;
    mask_later(b, p, s);
    Row most = Row::set(kMinusInf), sum = Row::set(0.0f);
    for (float* j = s; j != end; j += kPanel) most = max(most, Row::load(j));
    for (float* j = s; j != end; j += kPanel) {
      const Row e = exp((Row::load(j) - most) * scale);
      sum = sum + e;
      e.store(j);
    }
    (Row::set(1.0f) / sum).store(inverse + p * kPanel);
    float logs[kPanel];
    fma(most, scale, log(sum)).store(logs);
    for (int i = 0; i < b.queries(p); ++i) lse[b.row + b.first + p * kPanel + i] = logs[i];
  }
  tile_values(b, t.p, b.of_head(b.a.qkv, 2, 0), b.of_head(b.a.out, 0, b.first), inverse);
}

// p_j = exp(s_j - lse);  dp_j = dout . v_j;  ds_j = p_j (dp_j - sum over i of p_i dp_i) / sqrt(D)
// dq = sum over j of ds_j k_j;  dk_j += ds_j q;  dv_j += p_j dout
void backward_block(const QueryBlock& b, const float* lse) {
  const Attention& a = b.a;
  const TileScratch& t = b.scratch;
  const Row scale = Row::set(1.0f / __builtin_sqrtf(static_cast<float>(a.heads.head_dim)));
  transpose_queries(b, t.q, a.qkv);
  transpose_queries(b, t.dout, a.dout);
  tile_scores(b, t.p, b.of_head(a.qkv, 1, 0), t.q);
  tile_scores(b, t.ds, b.of_head(a.qkv, 2, 0), t.dout);
  for (int p = 0; p < b.panels(); ++p) {
    float *s = t.p.at(p, 0), *ds = t.ds.at(p, 0);
    const int64_t end = int64_t{b.keys(p)} * kPanel;
    mask_later(b, p, s);
    const Row logs = Row::load(lse + b.row + b.first + p * kPanel);
    Row sum = Row::set(0.0f);
    for (int64_t j = 0; j != end; j += kPanel) {
      const Row pj = exp(Row::load(s + j) * scale - logs);
      sum = fma(pj, Row::load(ds + j), sum);
      pj.store(s + j);
    }
    for (int64_t j = 0; j != end; j += kPanel)
      (Row::load(s + j) * (Row::load(ds + j) - sum) * scale).store(ds + j);
  }
  float ones[kQueries];
  for (float& one : ones) one = 1.0f;
  tile_values(b, t.ds, b.of_head(a.qkv, 1, 0), b.of_head(a.dqkv, 0, b.first), ones);
  tile_keys(b, t.ds, b.of_head(a.qkv, 0, b.first), b.of_head(a.dqkv, 1, 0));
  tile_keys(b, t.p, b.of_head(a.dout, 0, b.first), b.of_head(a.dqkv, 2, 0));
}

// lse: (heads, capacity) logarithm of the sum of exponentials of each row's scores.
struct LongRows {
  float* lse;
  int64_t capacity;
  TileScratch scratch;
};

// Of the rows of a span. What a query gets depends on no other.
void tiled_attention_forward(const Attention& a, const LongRows& l, Span nodes) {
  const Rows& r = *a.rows;
  for (int d = 0; d < r.documents; ++d) {
    const int row = r.document_begin[d], end = r.document_begin[d + 1];
    const int first = nodes.first > row ? nodes.first : row, last = nodes.last < end ? nodes.last : end;
    for (int head = 0; first < last && head < a.heads.groups; ++head)
      for (int n = first; n < last; n += kQueries)
        forward_block({a, l.scratch, head, row, n - row, last - n < kQueries ? last - n : kQueries},
                      l.lse + head * l.capacity);
  }
}

// Keys collect from all queries, so that threads share heads of documents.
void tiled_attention_backward(const Attention& a, const LongRows& l, Share& share) {
  const Rows& r = *a.rows;
  for (int d = 0; d < r.documents; ++d) {
    const int row = r.document_begin[d], end = r.document_begin[d + 1];
    for (int head = 0; head < a.heads.groups; ++head) {
      if (!share.mine()) continue;
      for (int third = 1; third < 3; ++third)
        for (int c = 0; c < a.heads.chunks; ++c)
          clear(a.dqkv, third * a.heads.panels() + head * a.heads.chunks + c, {row, end});
      for (int n = row; n < end; n += kQueries)
        backward_block({a, l.scratch, head, row, n - row, end - n < kQueries ? end - n : kQueries},
                       l.lse + head * l.capacity);
    }
  }
}

}  // namespace
}  // namespace microgpt
