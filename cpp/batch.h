// Documents -> prefixes. Positions of a batch that have the same prefix are one computation: a node
// of the trie of the batch. Before the first attention it depends on (token, position) alone: a
// pair. With sharing off every position of every document is a node and a pair of its own, and the
// same code runs over identity maps. Derivation: docs/derivations.md.
#pragma once
#include <cstddef>
#include <cstdint>

#include "arena.h"
#include "config.h"

namespace microgpt {

constexpr int kPanel = 16;  // features of a panel: see kernels/vec16.h

constexpr int kLongContext = 64;  // positions of a document from which on attention by tiles pays

// The prefixes of one batch; each is a row of the activations. Nodes are in level order (level =
// position in the document), so that all of a level attend to the same number of keys; or, by
// document, every position of every document is a node and a pair of its own, and there are neither
// levels nor paths. "Offset" means the row times kPanel.
struct Prefixes {
  int nodes, pairs, levels, entries;
  int documents;            // by document, else 0
  int32_t* document_begin;  // (documents + 1) first node of each

  int32_t* level_begin;    // (T + 1) first node of each level
  int32_t* pair_of;        // (nodes) offset of the node's pair
  int32_t* self;           // (nodes) offset of the node itself: the identity map
  int32_t* pair_path;      // (nodes, path_stride) offsets of the ancestors' pairs, by position;
  int32_t* node_path;      //   of the ancestors' nodes; the node itself comes last, then zeros
  float* weight;           // (nodes) sum over its documents of 1 / (B n_doc)
  int32_t* pair_token;     // (pairs)
  int32_t* pair_position;  // (pairs)

  // One entry for each position of each document: what it predicts there.
  int32_t* entry_node;    // (entries)
  int32_t* entry_target;  // (entries) next token
  float* entry_weight;    // (entries) 1 / (B n_doc)

  int path_stride;  // positions by level, rounded up to a multiple of 4
};

// Sixteen documents of at most kPanel positions, one in each lane, for an instruction set that
// builds the prefixes of all of them at once (cpp/isa/lanes.h). Rows of lanes, most by position.
struct alignas(kLine) LaneDocuments {
  int32_t token[kPanel + 1][kPanel];  // zeros after the last target
  // As in Prefixes; in the end turned about, (lane, position).
  int32_t pair_path[kPanel][kPanel], node_path[kPanel][kPanel];
  uint16_t first[kPanel];     // bits of the lanes whose prefix no document before has
  int32_t positions[kPanel];  // of a lane without a document 0
  int32_t node[kPanel];       // at the level before
  float weight[kPanel];       // 1 / (B n_doc)
};

// Builds the prefixes of a batch inside one block of memory, sized once for the largest batch.
class PrefixBuilder {
 public:
  // Batches go by level, with prefixes shared or not, if all their documents have at most
  // `by_level` positions, and by document otherwise. Takes its memory, which is zeroed, from the
  // arena; from one that only counts, nothing else.
  void create(Arena& arena, const Config& config, int batch_size, bool share, int by_level);
  void build(const Batch& batch);
  // What lanes work with, after a start(). Without documents, where they are long, nothing is
  // shared or too few would be side by side, it is for build().
  struct Lanes {
    Prefixes* prefixes;
    LaneDocuments* documents;  // (batch size / kPanel, rounded up)
    uint32_t base;             // of marks
    uint32_t *child, *pair;
    int block_size, vocab_size;
  };
  Lanes start_lanes(const Batch& batch);
  // The same by level for documents that are not known yet: after start(), grow() adds to
  // each document i of active[0 .. count - 1] its next token, token_of[i], and moves node_of[i] on.
  // node_of starts as zeros.
  void start();
  void grow(const int32_t* active, int count, const int32_t* token_of, int32_t* node_of);
  PYMICROGPT_INLINE const Prefixes& prefixes() const { return prefixes_; }

 private:
  struct Level {
    int t;
    int before;  // first node of the level above
    uint32_t oldest_node, oldest_pair;
  };
  Level open_level(const Prefixes& prefixes) const;
  int place(Prefixes& prefixes, const Level& level, int parent, int token, float weight);
  void build_alone(const Batch& batch);
  void build_by_level(const Batch& batch);
  void build_by_document(const Batch& batch);

  Prefixes prefixes_{};
  int block_size_ = 0, vocab_size_ = 0, batch_size_ = 0, by_level_ = 0;
  bool share_ = false;
  // Marks are row indices plus a base that grows from step to step, so that those of earlier steps
  // and levels are recognised by being smaller and nothing needs clearing.
  uint32_t base_ = 1;
  uint32_t* child_ = nullptr;         // (B, V) mark of the node under (parent in its level, token)
  uint32_t* pair_ = nullptr;          // (V) mark of the pair of a token at this level
  int32_t* node_of_ = nullptr;        // (B) node of each document at the level before
  int32_t* active_ = nullptr;         // (B) documents that reach this level
  int32_t* positions_ = nullptr;      // (B)
  float* weight_of_ = nullptr;        // (B) 1 / (B n_doc)
  const int32_t** tokens_ = nullptr;  // (B)
  LaneDocuments* lanes_ = nullptr;    // (B / kPanel, rounded up)
};

// An instruction set that has nothing better takes this.
namespace {
namespace by_entry {

PYMICROGPT_INLINE void build_prefixes(PrefixBuilder& builder, const Batch& batch) {
  builder.build(batch);
}

}  // namespace by_entry
}  // namespace

}  // namespace microgpt
