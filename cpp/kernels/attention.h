// Causal attention over paths of the trie, with one head in each quad.
//
// Features of q, k and v are stored head by quad: a panel holds four features of each of four heads
// (of two heads eight, of one head or for tiled_attention.h sixteen), so that a dot product per
// head is multiply-adds over the panels of the head and one sum inside quads, and the scores of
// four keys fill one Vec16.
#pragma once
#include "norm.h"

namespace microgpt {
namespace {

// Where the features of the heads are. Heads that do not fill a panel's quads, and head sizes that
// do not fill a quad, are padded with zero weights.
struct Heads {
  int head_dim;
  int span;    // quads of a panel that one head takes: 4 with one head, 2 with two, else 1
  int chunks;  // panels of one group of heads
  int groups;  // of 4 / span heads

  // whole: each head has panels of its own.
  PYMICROGPT_INLINE explicit Heads(const Config& c, bool whole = false)
      : head_dim(c.head_dim()), span(whole || c.n_head == 1 ? 4
                                     : c.n_head == 2        ? 2
                                                            : 1),
        chunks((c.head_dim() + 4 * span - 1) / (4 * span)), groups((c.n_head * span + 3) / 4) {}

  PYMICROGPT_INLINE int panels() const { return groups * chunks; }
  PYMICROGPT_INLINE int width() const { return panels() * kPanel; }
  // Packed position of feature o of q, k or v.
  PYMICROGPT_INLINE int at(int o) const {
    const int head = o / head_dim, d = o % head_dim, heads = 4 / span;
    const int chunk = d / (4 * span), quad = head % heads * span + d / 4 % span;
    return (head / heads * chunks + chunk) * kPanel + quad * 4 + d % 4;
  }
};

struct Attention {
  Heads heads;
  Panels qkv;   // (3 width, keys): q, then k, then v; keys are pairs in layer 0, nodes above it
  Panels dqkv;  // (3 width, keys)
  Panels y;     // (width, nodes)
  Panels dy;    // (width, nodes)
  float* p;     // (nodes, groups, key_groups, 16) probabilities: quad = head, four keys in a quad
  float* ds;    // the same, gradients of the scores
  int key_groups;
  const int32_t* row_of;  // (nodes) offset of the node's own row in qkv
  const int32_t* path;    // (nodes, path_stride) offsets of the rows it attends to
  const Prefixes* prefixes;

  PYMICROGPT_INLINE int64_t scores_at(int node, int group) const {
    return (int64_t{node} * heads.groups + group) * key_groups * kPanel;
  }
  PYMICROGPT_INLINE const int32_t* path_of(int node) const {
    return path + int64_t{node} * prefixes->path_stride;
  }
};

// Keys beyond the last one of a group of four.
constexpr float kMask[4][4] = {{0, kMinusInf, kMinusInf, kMinusInf},
                               {0, 0, kMinusInf, kMinusInf},
                               {0, 0, 0, kMinusInf},
                               {0, 0, 0, 0}};

// Sums over the quads of one head, where it has several.
PYMICROGPT_INLINE Vec16 over_head(const Vec16& s, int span) {
  if (span == 1) return s;
  if (span == 4) return across_quads(s);
  float in[kPanel], out[kPanel];
  s.store(in);
  for (int i = 0; i < kPanel; ++i) out[i] = in[i] + in[i ^ 4];
  return Vec16::load(out);
}

// For four rows of `keys` at offsets key[0..3]: the dot products with row `of` of `queries`.
template <int Chunks>
PYMICROGPT_INLINE Vec16 dots4(Panels queries, int query_panel, int64_t of, Panels keys,
                              int key_panel, const int32_t* key, const Heads& h) {
  const int chunks = Chunks > 0 ? Chunks : h.chunks;
  const float *q = queries.at(query_panel, of), *rows = keys.at(key_panel, 0);
  PYMICROGPT_FORGET(rows);  // else it is added to each offset anew
  Vec16 s[4];
  PYMICROGPT_UNROLL for (int j = 0; j < 4; ++j)
    s[j] = Vec16::load(q) * Vec16::load(rows + key[j]);
  for (int c = 1; c < chunks; ++c) {
    q += queries.stride;
    rows += keys.stride;
    PYMICROGPT_UNROLL for (int j = 0; j < 4; ++j)
      s[j] = fma(Vec16::load(q), Vec16::load(rows + key[j]), s[j]);
  }
  return over_head(reduce4(s[0], s[1], s[2], s[3]), h.span);
}

// f(j, p_j ...) for four of the `keys` keys of a node, where p_j is key j's value in each head.
template <class F, class... Each>
PYMICROGPT_INLINE void each_key(int first, int keys, F f, const Each&... p) {
  f(first, quad<0>(p)...);
  if (first + 1 < keys) f(first + 1, quad<1>(p)...);
  if (first + 2 < keys) f(first + 2, quad<2>(p)...);
  if (first + 3 < keys) f(first + 3, quad<3>(p)...);
}

// The scores of one node: G groups of four keys in registers or, with G = 0, any number in memory.
template <int G>
struct Scores {
  Vec16 group[G > 0 ? G : 1];
  float* memory;
  int count;

  PYMICROGPT_INLINE Scores(float* m, int n) : memory(m), count(n) {}
  PYMICROGPT_INLINE int size() const { return G > 0 ? G : count; }
  PYMICROGPT_INLINE Vec16 get(int k) const {
    return G > 0 ? group[G > 0 ? k : 0] : Vec16::load(memory + k * kPanel);
  }
  PYMICROGPT_INLINE void put(int k, const Vec16& x) {
    if constexpr (G > 0) group[k] = x;
    else x.store(memory + k * kPanel);
  }
};
#define EACH_GROUP(s) for (int k = 0; k < (s).size(); ++k)

// s_j = q . k_j / sqrt(D);  p = softmax(s);  y = sum over j of p_j v_j
template <int Chunks, int G>
PYMICROGPT_INLINE void forward_node(const Attention& attn, int n, int group, int keys) {
  const Heads& h = attn.heads;
  const int chunks = Chunks > 0 ? Chunks : h.chunks, width = h.panels(), first = group * chunks;
  const Vec16 scale = Vec16::set(1.0f / __builtin_sqrtf(static_cast<float>(h.head_dim)));
  const int32_t* path = attn.path_of(n);
  float* p = attn.p + attn.scores_at(n, group);

  Scores<G> s(p, (keys + 3) / 4);
  Vec16 most = Vec16::set(kMinusInf);
  EACH_GROUP(s) {
    Vec16 x = scale * dots4<Chunks>(attn.qkv, first, attn.row_of[n], attn.qkv, width + first,
                                    path + 4 * k, h);
    if (k == s.size() - 1 && keys % 4 != 0) x = x + Vec16::load_quad(kMask[(keys - 1) % 4]);
    most = max(most, x);
    s.put(k, x);
  }
  most = quad_max(most);
  Vec16 sum = Vec16::set(0.0f);
  EACH_GROUP(s) {
    const Vec16 e = exp(s.get(k) - most);
    sum = sum + e;
    s.put(k, e);
  }
  const Vec16 inverse = Vec16::set(1.0f) / quad_sum(sum);
  EACH_GROUP(s) {
    const Vec16 x = flush_below(kLeast, s.get(k) * inverse);
    s.put(k, x);
    x.store(p + k * kPanel);
  }

  constexpr int most_panels = Chunks > 0 ? Chunks : 4;  // as many at a time as registers hold
  for (int c0 = 0; c0 < chunks; c0 += most_panels) {
    const int some = Chunks > 0 ? Chunks : (chunks - c0 < most_panels ? chunks - c0 : most_panels);
    const float* v_rows = attn.qkv.at(2 * width + first + c0, 0);
    PYMICROGPT_FORGET(v_rows);
    Vec16 y[most_panels];
    PYMICROGPT_UNROLL for (int c = 0; c < most_panels; ++c) y[c] = Vec16::set(0.0f);
    EACH_GROUP(s) {
      each_key(4 * k, keys, [&](int j, const Vec16& pj) {
        const float* v = v_rows + path[j];
        PYMICROGPT_UNROLL for (int c = 0; c < most_panels; ++c)
          if (c < some) y[c] = fma(pj, Vec16::load(v + c * attn.qkv.stride), y[c]);
      }, s.get(k));
    }
    PYMICROGPT_UNROLL for (int c = 0; c < most_panels; ++c)
      if (c < some) y[c].store(attn.y.at(first + c0 + c, int64_t{n} * kPanel));
  }
}

// dp_j = dy . v_j;  ds_j = p_j (dp_j - sum over i of p_i dp_i) / sqrt(D), into s
template <int Chunks, int G>
PYMICROGPT_INLINE void scores_backward_node(const Attention& attn, int n, int group,
                                            Scores<G>& s) {
  const Heads& h = attn.heads;
  const int first = group * (Chunks > 0 ? Chunks : h.chunks), width = h.panels();
  const Vec16 scale = Vec16::set(1.0f / __builtin_sqrtf(static_cast<float>(h.head_dim)));
  const int32_t* path = attn.path_of(n);
  const float* p = attn.p + attn.scores_at(n, group);

  Vec16 sum = Vec16::set(0.0f);
  EACH_GROUP(s) {
    const Vec16 dp = dots4<Chunks>(attn.dy, first, int64_t{n} * kPanel, attn.qkv, 2 * width + first,
                            path + 4 * k, h);
    sum = fma(Vec16::load(p + k * kPanel), dp, sum);
    s.put(k, dp);
  }
  sum = quad_sum(sum);
  EACH_GROUP(s) {
    const Vec16 x = Vec16::load(p + k * kPanel) * (s.get(k) - sum) * scale;
    s.put(k, flush_below(kLeast, x));
  }
}
#undef EACH_GROUP

// f(n, keys, G) for the nodes of a span. All nodes of a level have the same number of keys; G says
// how many groups of four they are, or 0 for more than Most. With Known, `keys` is a constant where
// G is not 0.
template <int Most, bool Known = false, class F>
PYMICROGPT_INLINE void each_node(const Attention& attn, Span nodes, F f) {
  const Prefixes& r = *attn.prefixes;
  const auto each = [&](int level, auto keys, auto G) PYMICROGPT_INLINED {
    const int first = r.level_begin[level], last = r.level_begin[level + 1];
    for (int n = first > nodes.first ? first : nodes.first; n < last && n < nodes.last; ++n)
      f(n, keys, G);
  };
  for (int level = 0; level < r.levels; ++level) {
    if (level >= 4 * Most)
      each(level, level + 1, Constant<0>());
    else if constexpr (Known)
      with_up_to<4 * Most>(level + 1, [&](auto keys) {
        each(level, keys, Constant<(keys.value + 3) / 4>());
      });
    else
      with_up_to<(Most > 0 ? Most : 1)>(level / 4 + 1, [&](auto G) { each(level, level + 1, G); });
  }
}
// Most, with so many chunks known, or 0 of unknown number. Compact code has one special case.
constexpr int most_groups(int chunks) { return !Vec::compact ? 2 : chunks == 1 ? 1 : 0; }
// With more chunks there are not enough registers for several keys at once.
constexpr bool known_keys(int chunks) { return !Vec::compact && chunks == 1; }

void attention_forward(const Attention& shared, Span nodes) {
  with_one_of<1, 2, 4>(shared.heads.chunks, [&](auto Chunks) {
    const Attention attn = shared;  // a copy, which no store can alias
    constexpr int most = most_groups(Chunks.value);
    for (int group = 0; group < attn.heads.groups; ++group)
      each_node<most, known_keys(Chunks.value)>(attn, nodes, [&](int n, auto keys, auto G)
                                                                 PYMICROGPT_INLINED {
        forward_node<Chunks.value, G.value>(attn, n, group, keys);
      });
  });
}

void scores_backward(const Attention& shared, Span nodes) {
  with_one_of<1, 2, 4>(shared.heads.chunks, [&](auto Chunks) {
    const Attention attn = shared;
    constexpr int most = most_groups(Chunks.value);
    for (int group = 0; group < attn.heads.groups; ++group)
      each_node<most>(attn, nodes, [&](int n, int keys, auto G) PYMICROGPT_INLINED {
        float* ds = attn.ds + attn.scores_at(n, group);
        Scores<G.value> s(ds, (keys + 3) / 4);
        scores_backward_node<Chunks.value>(attn, n, group, s);
        for (int k = 0; G.value > 0 && k < s.size(); ++k) s.get(k).store(ds + k * kPanel);
      });
  });
}

// dq += sum over j of ds_j k_j;  dk_j += ds_j q;  dv_j += p_j dy, for P panels of q, k and v, all
// of one group of heads, and those of the three that are asked for. DS: the panels are all of the
// group, and ds is computed here.
template <bool DQ, bool DK, bool DV, int P, bool DS = false>
void accumulate(const Attention& shared, int group, int panel, int rows) {
#define EACH_PANEL PYMICROGPT_UNROLL for (int c = 0; c < P; ++c)
  const Attention attn = shared;
  const int width = attn.heads.panels();
  // From one panel to the next.
  const int64_t step = attn.qkv.stride, dstep = attn.dqkv.stride, out_step = attn.dy.stride;
  const float *q_rows = attn.qkv.at(panel, 0), *k_rows = attn.qkv.at(width + panel, 0);
  const float* dy_rows = attn.dy.at(panel, 0);
  float *dq_rows = attn.dqkv.at(panel, 0), *dk_rows = attn.dqkv.at(width + panel, 0),
        *dv_rows = attn.dqkv.at(2 * width + panel, 0);
  EACH_PANEL {
    if (DQ) clear(attn.dqkv, panel + c, {0, rows});
    if (DK) clear(attn.dqkv, width + panel + c, {0, rows});
    if (DV) clear(attn.dqkv, 2 * width + panel + c, {0, rows});
  }
  constexpr int most = most_groups(0);
  each_node<most>(attn, {0, attn.prefixes->nodes}, [&](int n, int keys, auto G) PYMICROGPT_INLINED {
    const int32_t* path = attn.path_of(n);
    const float* p = attn.p + attn.scores_at(n, group);
    Scores<DS ? G.value : 0> ds(attn.ds + attn.scores_at(n, group), (keys + 3) / 4);
    if constexpr (DS) scores_backward_node<P>(attn, n, group, ds);
    float* own_dq = dq_rows + attn.row_of[n];
    Vec16 q[P], dy[P], dq[P];
    EACH_PANEL {
      q[c] = Vec16::load(q_rows + attn.row_of[n] + c * step);
      dy[c] = Vec16::load(dy_rows + int64_t{n} * kPanel + c * out_step);
      if (DQ) dq[c] = Vec16::load(own_dq + c * dstep);  // else another thread's
    }
    for (int k = 0; k < ds.size(); ++k)
      each_key(4 * k, keys, [&](int j, const Vec16& dsj, const Vec16& pj) PYMICROGPT_INLINED {
        const int64_t at = path[j];
        EACH_PANEL {
          if (DQ) dq[c] = fma(dsj, Vec16::load(k_rows + at + c * step), dq[c]);
          float *dk = dk_rows + at + c * dstep, *dv = dv_rows + at + c * dstep;
          if (DK) fma(dsj, q[c], Vec16::load(dk)).store(dk);
          if (DV) fma(pj, dy[c], Vec16::load(dv)).store(dv);
        }
      }, ds.get(k), Vec16::load(p + k * kPanel));
    if (DQ) EACH_PANEL dq[c].store(own_dq + c * dstep);
  });
#undef EACH_PANEL
}

// Panels of q, k and v that registers have room for.
constexpr int most_at_once() {
  constexpr int fit = Vec::accumulators / (3 * kVectors);
  return fit < 1 ? 1 : fit < 4 ? fit : 4;
}
// Whether ds and what becomes of it are found in one pass over the nodes.
PYMICROGPT_INLINE bool one_pass(const Attention& attn, const Share& share) {
  return !Vec::compact && share.size == 1 && attn.heads.chunks <= most_at_once();
}

// Keys collect from all their descendants, so that threads share panels, not rows. `rows` is the
// number of rows of qkv.
void attention_backward(const Attention& attn, int rows, Share& share) {
  constexpr int most = most_at_once();
  if constexpr (!Vec::compact)
    if (one_pass(attn, share)) {
      for (int group = 0; group < attn.heads.groups; ++group)
        with_up_to<most>(attn.heads.chunks, [&](auto P) {
          accumulate<true, true, true, P.value, true>(attn, group, group * P.value, rows);
        });
      return;
    }
  for (int group = 0; group < attn.heads.groups; ++group)
    split_evenly(attn.heads.chunks, most, [&](int chunk, int some) {
      const int panel = group * attn.heads.chunks + chunk;
      with_up_to<most>(some, [&](auto P) {
        if (Vec::compact || share.size == 1) {  // which is one thread
          accumulate<true, true, true, P.value>(attn, group, panel, rows);
        } else {
          if (share.mine()) accumulate<true, false, false, P.value>(attn, group, panel, rows);
          if (share.mine()) accumulate<false, true, false, P.value>(attn, group, panel, rows);
          if (share.mine()) accumulate<false, false, true, P.value>(attn, group, panel, rows);
        }
      });
    });
}

}  // namespace
}  // namespace microgpt
