// The prefixes of a batch with a document in each lane, by AVX-512: for short documents, sixteen at
// a time, what PrefixBuilder::build() finds entry by entry. The same rows in the same order.
#pragma once
#include <immintrin.h>

#include "../batch.h"

namespace microgpt {
namespace {

using Ints = __m512i;

PYMICROGPT_INLINE Ints all(int32_t x) { return _mm512_set1_epi32(x); }
PYMICROGPT_INLINE Ints lane_numbers() {
  return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
// Those of the first positions 0 .. t.
PYMICROGPT_INLINE __mmask16 up_to(int t) { return static_cast<__mmask16>((2u << t) - 1); }
// The chosen lanes side by side; sixteen are written.
PYMICROGPT_INLINE void put(void* to, __mmask16 chosen, Ints x) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(chosen, x));
}

// to[i][j] = from[j][i]; they may be the same.
PYMICROGPT_INLINE void transpose_lanes(const Ints* from, int32_t (*to)[kPanel]) {
  Ints pairs[16], quads[16];
  PYMICROGPT_UNROLL for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(from[i], from[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(from[i], from[i + 1]);
  }
  PYMICROGPT_UNROLL for (int i = 0; i < 16; i += 4)
    PYMICROGPT_UNROLL for (int j = 0; j < 2; ++j) {
      quads[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + j + 2]);
      quads[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + j + 2]);
    }
  PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
    const Ints a = _mm512_shuffle_i32x4(quads[i], quads[i + 4], 0x88);
    const Ints b = _mm512_shuffle_i32x4(quads[i], quads[i + 4], 0xDD);
    const Ints c = _mm512_shuffle_i32x4(quads[i + 8], quads[i + 12], 0x88);
    const Ints d = _mm512_shuffle_i32x4(quads[i + 8], quads[i + 12], 0xDD);
    _mm512_storeu_si512(to[i], _mm512_shuffle_i32x4(a, c, 0x88));
    _mm512_storeu_si512(to[i + 4], _mm512_shuffle_i32x4(b, d, 0x88));
    _mm512_storeu_si512(to[i + 8], _mm512_shuffle_i32x4(a, c, 0xDD));
    _mm512_storeu_si512(to[i + 12], _mm512_shuffle_i32x4(b, d, 0xDD));
  }
}

// Rows that have been given out at a level, each to a key: `marks` has one for each key, as
// PrefixBuilder's, or is null where all lanes of a level are here.
struct Rows16 {
  __mmask16 first;  // lanes of new keys
  __mmask16 known;  // lanes of keys that have a row from lanes before these
  Ints leader;      // the first lane of the same key
  Ints row;
};
PYMICROGPT_INLINE Rows16 give_rows(Ints keys, __mmask16 here, uint32_t* marks, uint32_t base,
                                   uint32_t oldest, int next) {
  keys = _mm512_mask_mov_epi32(all(-1), here, keys);
  const Ints equal = _mm512_conflict_epi32(keys);  // bits of the lanes before that are equal
  const Ints lowest = _mm512_and_si512(equal, _mm512_sub_epi32(all(0), equal));
  Rows16 found;
  found.leader = _mm512_mask_sub_epi32(lane_numbers(), _mm512_test_epi32_mask(equal, equal),
                                       all(31), _mm512_lzcnt_epi32(lowest));
  found.first = here & _mm512_testn_epi32_mask(equal, equal);
  found.known = 0;
  Ints mark = all(0);
  if (marks != nullptr) {
    mark = _mm512_mask_i32gather_epi32(mark, found.first, keys, marks, 4);
    found.known = _mm512_mask_cmpge_epu32_mask(found.first, mark, all(static_cast<int>(oldest)));
    found.first &= static_cast<__mmask16>(~found.known);
  }
  const Ints numbers = _mm512_maskz_expand_epi32(found.first, lane_numbers());
  found.row = _mm512_mask_sub_epi32(_mm512_add_epi32(all(next), numbers), found.known, mark,
                                    all(static_cast<int>(base)));
  if (marks != nullptr)
    _mm512_mask_i32scatter_epi32(marks, found.first, keys,
                                 _mm512_add_epi32(found.row, all(static_cast<int>(base))), 4);
  found.row = _mm512_permutexvar_epi32(found.leader, found.row);
  return found;
}

// `count` documents of a batch from document d on; returns the one after them.
PYMICROGPT_INLINE int64_t load_documents(LaneDocuments& docs, const Batch& batch, int64_t d,
                                         int count, int block_size) {
  Ints tokens[kPanel] = {};
  for (int i = 0; i < kPanel; ++i) docs.positions[i] = docs.token[kPanel][i] = 0;
  for (int i = 0; i < count; ++i) {
    const int n = batch.documents.positions(d, block_size);
    tokens[i] = _mm512_maskz_loadu_epi32(up_to(n), batch.documents.begin(d));
    if (n == kPanel) docs.token[kPanel][i] = batch.documents.begin(d)[n];
    docs.positions[i] = n;
    if (++d == batch.documents.count) d = 0;
  }
  transpose_lanes(tokens, docs.token);
  const __m512 positions = _mm512_cvtepi32_ps(_mm512_loadu_si512(docs.positions));
  const __m512 size = _mm512_set1_ps(static_cast<float>(batch.size));
  _mm512_storeu_ps(docs.weight,
                   _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_mul_ps(size, positions)));
  _mm512_storeu_si512(docs.node, all(0));
  return d;
}

// p.weight of the nodes: that of the first lane, and those of the others added in their order.
PYMICROGPT_INLINE void add_weights(float* node_weight, const LaneDocuments& docs, __mmask16 here,
                                   const Rows16& node, int next) {
  __m512 sum = _mm512_loadu_ps(docs.weight);
  if (node.known != 0)
    sum = _mm512_mask_add_ps(
        sum, node.known, _mm512_mask_i32gather_ps(sum, node.known, node.row, node_weight, 4), sum);
  for (unsigned more = here & ~(node.first | node.known); more != 0; more &= more - 1) {
    const int i = __builtin_ctz(more);
    const Ints to = _mm512_permutexvar_epi32(all(i), node.leader);
    sum = _mm512_mask_add_ps(sum, _mm512_cmpeq_epi32_mask(to, lane_numbers()), sum,
                             _mm512_set1_ps(docs.weight[i]));
  }
  put(node_weight + next, node.first, _mm512_castps_si512(sum));
  if (node.known != 0) _mm512_mask_i32scatter_ps(node_weight, node.known, node.row, sum, 4);
}

// Writes the paths of all nodes: those of their lanes, up to their levels.
PYMICROGPT_INLINE void put_paths(const Prefixes& p, int32_t* to, LaneDocuments* docs, int chunks,
                                 int32_t (LaneDocuments::*path)[kPanel][kPanel]) {
  for (int c = 0; c < chunks; ++c) {
    Ints rows[kPanel];
    for (int t = 0; t < kPanel; ++t) rows[t] = _mm512_loadu_si512((docs[c].*path)[t]);
    transpose_lanes(rows, docs[c].*path);
  }
  for (int t = 0; t < p.levels; ++t)
    for (int c = 0; c < chunks; ++c)
      for (unsigned own = docs[c].first[t]; own != 0; own &= own - 1, to += p.path_stride)
        _mm512_storeu_si512(
            to, _mm512_maskz_loadu_epi32(up_to(t), (docs[c].*path)[__builtin_ctz(own)]));
}

void build_in_lanes(const PrefixBuilder::Lanes& lanes, const Batch& batch) {
  Prefixes p = *lanes.prefixes;
  const int chunks = (batch.size + kPanel - 1) / kPanel;
  int longest = 0;
  int64_t d = batch.first;
  for (int c = 0; c < chunks; ++c) {
    LaneDocuments& docs = lanes.documents[c];
    const int left = batch.size - c * kPanel;
    d = load_documents(docs, batch, d, left < kPanel ? left : kPanel, lanes.block_size);
    const int most = _mm512_reduce_max_epi32(_mm512_loadu_si512(docs.positions));
    longest = longest < most ? most : longest;
  }
  // With one chunk nothing is known from chunks before.
  uint32_t* const child = chunks > 1 ? lanes.child : nullptr;
  uint32_t* const pair_mark = chunks > 1 ? lanes.pair : nullptr;
  for (int t = 0; t < longest; ++t) {
    const Ints before = all(t > 0 ? p.level_begin[t - 1] : 0), vocab = all(lanes.vocab_size);
    const uint32_t oldest_node = lanes.base + static_cast<uint32_t>(p.nodes);
    const uint32_t oldest_pair = lanes.base + static_cast<uint32_t>(p.pairs);
    for (int c = 0; c < chunks; ++c) {
      LaneDocuments& docs = lanes.documents[c];
      const __mmask16 here = _mm512_cmpgt_epi32_mask(_mm512_loadu_si512(docs.positions), all(t));
      docs.first[t] = 0;
      if (here == 0) continue;
      const Ints tokens = _mm512_loadu_si512(docs.token[t]);
      const Ints parents = _mm512_sub_epi32(_mm512_loadu_si512(docs.node), before);
      const Ints keys = _mm512_add_epi32(_mm512_mullo_epi32(parents, vocab), tokens);
      const Rows16 pair = give_rows(tokens, here, pair_mark, lanes.base, oldest_pair, p.pairs);
      const Rows16 node = give_rows(keys, here, child, lanes.base, oldest_node, p.nodes);
      const Ints pair_offset = _mm512_slli_epi32(pair.row, 4);
      docs.first[t] = node.first;
      _mm512_storeu_si512(docs.node, node.row);
      _mm512_storeu_si512(docs.pair_path[t], pair_offset);
      _mm512_storeu_si512(docs.node_path[t], _mm512_slli_epi32(node.row, 4));
      add_weights(p.weight, docs, here, node, p.nodes);
      put(p.pair_of + p.nodes, node.first, pair_offset);
      put(p.pair_token + p.pairs, pair.first, tokens);
      _mm512_storeu_si512(p.pair_position + p.pairs, all(t));
      put(p.entry_node + p.entries, here, node.row);
      put(p.entry_target + p.entries, here, _mm512_loadu_si512(docs.token[t + 1]));
      put(p.entry_weight + p.entries, here, _mm512_loadu_si512(docs.weight));
      p.nodes += __builtin_popcount(node.first);
      p.pairs += __builtin_popcount(pair.first);
      p.entries += __builtin_popcount(here);
    }
    p.level_begin[++p.levels] = p.nodes;
  }
  put_paths(p, p.pair_path, lanes.documents, chunks, &LaneDocuments::pair_path);
  if (p.node_path != nullptr)
    put_paths(p, p.node_path, lanes.documents, chunks, &LaneDocuments::node_path);
  *lanes.prefixes = p;
}

PYMICROGPT_INLINE void build_prefixes(PrefixBuilder& builder, const Batch& batch) {
  const PrefixBuilder::Lanes lanes = builder.start_lanes(batch);
  if (lanes.documents != nullptr) build_in_lanes(lanes, batch);
  else builder.build(batch);
}

}  // namespace
}  // namespace microgpt
