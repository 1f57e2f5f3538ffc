// Causal attention of long documents: the same as in attention.h, by products of tiles of queries
// and keys, with rows by document and no prefixes shared. Probabilities are not kept: backward
// computes them again from the logarithm of their sum, so that memory grows with the context, not
// its square.
//
// Features of a head fill panels of their own. A block of queries has a strip of scores, with
// queries in the lanes: (query panels, keys, 16). Keys after the last query of a panel are left
// out, those within it masked.
#pragma once
#include "attention.h"

namespace microgpt {
namespace {

constexpr int kQueries = 64;  // of a block

// Whether long documents go by tiles: a head must fill most of a panel, and code need not be small.
bool tiled(const Config& c) {
  return !Vec::compact && c.block_size >= kLongContext && c.head_dim() >= 12;
}

// What one thread works with.
struct TileScratch {
  Panels q, dy;  // (query panels, head features, 16 queries): transposed
  Panels p, ds;  // (query panels, keys, 16 queries): scores, then probabilities; their gradients

  static int64_t floats(const Config& c) {
    return 2 * int64_t{kQueries} * (panels_of(c.head_dim()) * kPanel + strip(c));
  }
  PYMICROGPT_INLINE static int64_t strip(const Config& c) {
    return (panels_of(c.block_size) + 1) * kPanel;
  }
  TileScratch(const Config& c, float* data) {
    const int64_t features = panels_of(c.head_dim()) * kPanel, keys = strip(c);
    const auto take = [&](int64_t rows) {
      const Panels piece{data, rows * kPanel};
      data += rows * kQueries;
      return piece;
    };
    q = take(features);
    dy = take(features);
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
  PYMICROGPT_INLINE void operator()(int, int, float* to, const Vec16& sum) const {
    (Vec16::load(to) + sum).store(to);
  }
};

// A block of queries of one head of a document.
struct QueryBlock {
  const Attention& attn;
  TileScratch scratch;
  int head, row, first, size;  // row: the first one of the document; first: query, in it

  // Panels of this head in an array of q, k and v, or of one of them, from a row of the document.
  PYMICROGPT_INLINE Panels of_head(Panels x, int third, int from) const {
    const int panel = third * attn.heads.panels() + head * attn.heads.chunks;
    return {x.at(panel, int64_t{row + from} * kPanel), x.stride};
  }
  PYMICROGPT_INLINE int panels() const { return panels_of(size); }
  // Queries of a panel of them, and keys that they attend to.
  PYMICROGPT_INLINE int queries(int p) const {
    return size - p * kPanel < kPanel ? size - p * kPanel : kPanel;
  }
  PYMICROGPT_INLINE int keys(int p) const { return first + p * kPanel + queries(p); }
};

// Rows of x (features, rows) transposed: the queries of the block from `from` on.
PYMICROGPT_INLINE void transpose_queries(const QueryBlock& b, Panels to, Panels x) {
  transpose_rows(to, b.of_head(x, 0, b.first), b.attn.heads.chunks, 0, b.panels());
}

// s[q][j] = x[j] . of[q] for the keys j that a panel of queries attends to; `of` is transposed.
void tile_scores(const QueryBlock& b, Panels s, Panels x, Panels of) {
  const CutPanels keys{x};
  const int D = b.attn.heads.head_dim;
  if (b.first > 0) product(keys, D, of, b.panels(), {0, b.first}, Store{s});
  for (int p = 0; p < b.panels(); ++p)
    product(keys, D, Panels{of.at(p, 0), of.stride}, 1, {b.first, b.keys(p)},
            Store{Panels{s.at(p, 0), s.stride}});
}

// to[q] = scale[q] * sum over the keys j of s[q][j] x[j], of R queries and P panels of features
template <int R, int P>
PYMICROGPT_INLINE void values_tile(Panels s, Panels x, Panels to, const float* scale, int query,
                                   int keys, int panel) {
  Vec sum[R][P * kVectors];
  PYMICROGPT_UNROLL for (int i = 0; i < R; ++i)
    PYMICROGPT_UNROLL for (int u = 0; u < P * kVectors; ++u) sum[i][u] = Vec::set(0.0f);
  outer_products(sum, x, panel, s, query, {0, keys});
  PYMICROGPT_UNROLL for (int i = 0; i < R; ++i)
    PYMICROGPT_UNROLL for (int c = 0; c < P; ++c)
      (sixteen_of(sum[i], c) * Vec16::set(scale[query + i]))
          .store(to.at(panel + c, int64_t{query + i} * kPanel));
}

void tile_values(const QueryBlock& b, Panels s, Panels x, Panels to, const float* scale) {
  const auto rows_by = [&](auto P, int panel) {
    constexpr int fit = Vec::accumulators / (P.value * kVectors),
                  most = fit < kPanel ? fit : kPanel;
    for (int p = 0; p < b.panels(); ++p)
      split_evenly(b.queries(p), most, [&](int r, int some) {
        with_up_to<most>(some, [&](auto R) {
          values_tile<R.value, P.value>(s, x, to, scale, p * kPanel + r, b.keys(p), panel);
        });
      });
  };
  split_evenly(b.attn.heads.chunks, Vec::tile_panels, [&](int panel, int some) {
    with_up_to<Vec::tile_panels>(some, [&](auto P) { rows_by(P, panel); });
  });
}

// to[j] += sum over the queries q that attend to key j of s[q][j] x[q]
void tile_keys(const QueryBlock& b, Panels s, Panels x, Panels to) {
  const auto add = [&](int p, Span keys) {  // queries from panel p on
    product(CutPanels{{s.at(p, 0), s.stride}}, b.size - p * kPanel,
            Panels{x.at(0, int64_t{p} * kPanel * kPanel), x.stride}, b.attn.heads.chunks, keys,
            Add{to});
  };
  if (b.first > 0) add(0, {0, b.first});
  for (int p = 0; p < b.panels(); ++p) add(p, {b.first + p * kPanel, b.keys(p)});
}

// Scores of the keys within a panel of queries: minus infinity where the key comes after the query.
PYMICROGPT_INLINE void mask_later(const QueryBlock& b, int p, float* s) {
  constexpr float mask[2 * kPanel] = {
      kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf,
      kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf, kMinusInf};
  for (int i = 1; i < b.queries(p); ++i) {
    float* row = s + int64_t{b.first + p * kPanel + i} * kPanel;
    (Vec16::load(row) + Vec16::load(mask + kPanel - i)).store(row);
  }
}

// s_j = q . k_j / sqrt(D);  p = softmax(s);  y = sum over j of p_j v_j
void forward_block(const QueryBlock& b, float* lse) {
  const TileScratch& t = b.scratch;
  const Vec16 scale = Vec16::set(1.0f / __builtin_sqrtf(static_cast<float>(b.attn.heads.head_dim)));
  transpose_queries(b, t.q, b.attn.qkv);
  tile_scores(b, t.p, b.of_head(b.attn.qkv, 1, 0), t.q);
  float inverse[kQueries];
  for (int p = 0; p < b.panels(); ++p) {
    float* s = t.p.at(p, 0);
    float* const end = s + int64_t{b.keys(p)} * kPanel;
    mask_later(b, p, s);
    Vec16 most = Vec16::set(kMinusInf), sum = Vec16::set(0.0f);
    for (float* j = s; j != end; j += kPanel) most = max(most, Vec16::load(j));
    for (float* j = s; j != end; j += kPanel) {
      const Vec16 e = exp((Vec16::load(j) - most) * scale);
      sum = sum + e;
      e.store(j);
    }
    (Vec16::set(1.0f) / sum).store(inverse + p * kPanel);
    float logs[kPanel];
    fma(most, scale, log(sum)).store(logs);
    for (int i = 0; i < b.queries(p); ++i) lse[b.row + b.first + p * kPanel + i] = logs[i];
  }
  tile_values(b, t.p, b.of_head(b.attn.qkv, 2, 0), b.of_head(b.attn.y, 0, b.first), inverse);
}

// p_j = exp(s_j - lse);  dp_j = dy . v_j;  ds_j = p_j (dp_j - sum over i of p_i dp_i) / sqrt(D)
// dq = sum over j of ds_j k_j;  dk_j += ds_j q;  dv_j += p_j dy
void backward_block(const QueryBlock& b, const float* lse) {
  const Attention& attn = b.attn;
  const TileScratch& t = b.scratch;
  const Vec16 scale = Vec16::set(1.0f / __builtin_sqrtf(static_cast<float>(attn.heads.head_dim)));
  transpose_queries(b, t.q, attn.qkv);
  transpose_queries(b, t.dy, attn.dy);
  tile_scores(b, t.p, b.of_head(attn.qkv, 1, 0), t.q);
  tile_scores(b, t.ds, b.of_head(attn.qkv, 2, 0), t.dy);
  for (int p = 0; p < b.panels(); ++p) {
    float *s = t.p.at(p, 0), *ds = t.ds.at(p, 0);
    const int64_t end = int64_t{b.keys(p)} * kPanel;
    mask_later(b, p, s);
    const Vec16 logs = Vec16::load(lse + b.row + b.first + p * kPanel);
    Vec16 sum = Vec16::set(0.0f);
    for (int64_t j = 0; j != end; j += kPanel) {
      const Vec16 pj = exp(Vec16::load(s + j) * scale - logs);
      sum = fma(pj, Vec16::load(ds + j), sum);
      pj.store(s + j);
    }
    for (int64_t j = 0; j != end; j += kPanel)
      (Vec16::load(s + j) * (Vec16::load(ds + j) - sum) * scale).store(ds + j);
  }
  float ones[kQueries];
  for (float& one : ones) one = 1.0f;
  tile_values(b, t.ds, b.of_head(attn.qkv, 1, 0), b.of_head(attn.dqkv, 0, b.first), ones);
  tile_keys(b, t.ds, b.of_head(attn.qkv, 0, b.first), b.of_head(attn.dqkv, 1, 0));
  tile_keys(b, t.p, b.of_head(attn.dy, 0, b.first), b.of_head(attn.dqkv, 2, 0));
}

// lse: (heads, capacity) logarithm of the sum of exponentials of each row's scores.
struct TiledMemory {
  float* lse;
  int64_t capacity;
  TileScratch scratch;
};

// Of the rows of a span. What a query gets depends on no other.
void tiled_attention_forward(const Attention& attn, const TiledMemory& l, Span nodes) {
  const Prefixes& r = *attn.prefixes;
  for (int d = 0; d < r.documents; ++d) {
    const int row = r.document_begin[d], end = r.document_begin[d + 1];
    const int first = nodes.first > row ? nodes.first : row,
              last = nodes.last < end ? nodes.last : end;
    for (int head = 0; first < last && head < attn.heads.groups; ++head)
      for (int n = first; n < last; n += kQueries)
        forward_block(
            {attn, l.scratch, head, row, n - row, last - n < kQueries ? last - n : kQueries},
            l.lse + head * l.capacity);
  }
}

// Keys collect from all queries, so that threads share heads of documents.
void tiled_attention_backward(const Attention& attn, const TiledMemory& l, Share& share) {
  const Prefixes& r = *attn.prefixes;
  for (int d = 0; d < r.documents; ++d) {
    const int row = r.document_begin[d], end = r.document_begin[d + 1];
    for (int head = 0; head < attn.heads.groups; ++head) {
      if (!share.mine()) continue;
      for (int third = 1; third < 3; ++third)
        for (int c = 0; c < attn.heads.chunks; ++c)
          clear(attn.dqkv, third * attn.heads.panels() + head * attn.heads.chunks + c, {row, end});
      for (int n = row; n < end; n += kQueries)
        backward_block(
            {attn, l.scratch, head, row, n - row, end - n < kQueries ? end - n : kQueries},
            l.lse + head * l.capacity);
    }
  }
}

}  // namespace
}  // namespace microgpt
