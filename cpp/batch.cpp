#include "batch.h"

#include <cstring>
#include <type_traits>

namespace microgpt {
namespace {

// The path of `node` at level t: its parent's, then itself, then zeros to a multiple of four.
inline void extend(int32_t* paths, int stride, int node, int parent, int t, int32_t own) {
  int32_t* path = paths + int64_t{node} * stride;
  const int32_t* before = paths + int64_t{parent} * stride;
  for (int i = 0; i < t; i += 4) std::memcpy(path + i, before + i, 4 * sizeof(int32_t));
  if (t % 4 == 0) std::memset(path + t, 0, 4 * sizeof(int32_t));
  path[t] = own;
}

}  // namespace

// Lays the arrays out in a block, or, with none, only counts its bytes.
size_t RowBuilder::layout(char* block, const Config& config, int batch_size, Order order) {
  size_t used = 0;
  const auto take = [&](auto*& pointer, size_t count) {
    using T = std::remove_reference_t<decltype(*pointer)>;
    if (block != nullptr) pointer = reinterpret_cast<T*>(block + used);
    used += (count * sizeof(T) + 63) / 64 * 64;
  };
  const size_t B = static_cast<size_t>(batch_size);
  const size_t rows = B * static_cast<size_t>(config.block_size);
  const size_t stride = (static_cast<size_t>(config.block_size) + 3) / 4 * 4;
  const size_t V = static_cast<size_t>(config.vocab_size);
  take(rows_.level_begin, static_cast<size_t>(config.block_size) + 1);
  take(rows_.pair_of, rows);
  take(rows_.self, rows);
  if (order == Order::by_document) {
    take(rows_.document_begin, B + 1);
  } else {
    take(rows_.pair_path, rows * stride);
    if (config.n_layer > 1) take(rows_.node_path, rows * stride);
  }
  take(rows_.weight, rows);
  take(rows_.pair_token, rows);
  take(rows_.pair_position, rows);
  take(rows_.entry_node, rows);
  take(rows_.entry_target, rows);
  take(rows_.entry_weight, rows);
  take(child_, B * V);
  take(pair_, V);
  take(node_of_, B);
  take(active_, B);
  take(positions_, B);
  take(weight_of_, B);
  take(tokens_, B);
  return used;
}

size_t RowBuilder::bytes(const Config& config, int batch_size, Order order) {
  return RowBuilder().layout(nullptr, config, batch_size, order);
}

void RowBuilder::create(void* memory, const Config& config, int batch_size, Order order) {
  *this = RowBuilder();
  layout(static_cast<char*>(memory), config, batch_size, order);
  rows_.path_stride = (config.block_size + 3) / 4 * 4;
  block_size_ = config.block_size;
  vocab_size_ = config.vocab_size;
  share_ = order == Order::shared;
  by_document_ = order == Order::by_document;
  batch_size_ = batch_size;
  for (int i = 0; i < batch_size * config.block_size; ++i) rows_.self[i] = i * kPanel;
}

void RowBuilder::start() {
  const uint32_t rows = static_cast<uint32_t>(batch_size_) * static_cast<uint32_t>(block_size_);
  if (base_ > UINT32_MAX - 2 * rows) {
    std::memset(child_, 0, sizeof(uint32_t) * static_cast<size_t>(batch_size_) *
                               static_cast<size_t>(vocab_size_));
    std::memset(pair_, 0, sizeof(uint32_t) * static_cast<size_t>(vocab_size_));
    base_ = 1;
  } else {
    base_ += rows;
  }
  rows_.nodes = rows_.pairs = rows_.entries = rows_.levels = 0;
  rows_.level_begin[0] = 0;
}

RowBuilder::Level RowBuilder::open_level(const Rows& r) const {
  const int t = r.levels;
  return {t, t > 0 ? r.level_begin[t - 1] : 0, base_ + static_cast<uint32_t>(r.nodes),
          base_ + static_cast<uint32_t>(r.pairs)};
}

// The node of a prefix: `token` after the node `parent`. Whether it is new is as good as random, so
// nothing here branches on it: a prefix seen before writes again what is there already.
inline int RowBuilder::place(Rows& r, const Level& level, int parent, int token, float weight) {
  uint32_t& mark = child_[static_cast<int64_t>(parent - level.before) * vocab_size_ + token];
  const bool known = share_ & (mark >= level.oldest_node);
  mark = known ? mark : base_ + static_cast<uint32_t>(r.nodes);
  const int node = static_cast<int>(mark - base_);
  r.nodes += !known;

  uint32_t& pair_mark = pair_[token];
  const bool pair_known = share_ & (pair_mark >= level.oldest_pair);
  pair_mark = pair_known ? pair_mark : base_ + static_cast<uint32_t>(r.pairs);
  const int pair = static_cast<int>(pair_mark - base_);
  r.pairs += !pair_known;

  r.weight[node] = (known ? r.weight[node] : 0.0f) + weight;
  r.pair_of[node] = pair * kPanel;
  r.pair_token[pair] = token;
  r.pair_position[pair] = level.t;
  extend(r.pair_path, r.path_stride, node, parent, level.t, pair * kPanel);
  if (r.node_path != nullptr)
    extend(r.node_path, r.path_stride, node, parent, level.t, node * kPanel);
  return node;
}

void RowBuilder::build_by_document(const Batch& batch) {
  Rows r = rows_;
  int n = 0;
  int64_t d = batch.first;
  for (r.documents = 0; r.documents < batch.size; ++r.documents) {
    const int32_t* tokens = batch.documents.begin(d);
    const int positions = batch.documents.positions(d, block_size_);
    const float weight = 1.0f / (static_cast<float>(batch.size) * static_cast<float>(positions));
    r.document_begin[r.documents] = n;
    for (int t = 0; t < positions; ++t, ++n) {
      r.pair_of[n] = n * kPanel;
      r.weight[n] = r.entry_weight[n] = weight;
      r.pair_token[n] = tokens[t];
      r.pair_position[n] = t;
      r.entry_node[n] = n;
      r.entry_target[n] = tokens[t + 1];
    }
    if (++d == batch.documents.count) d = 0;
  }
  r.document_begin[r.documents] = r.nodes = r.pairs = r.entries = n;
  rows_ = r;
}

void RowBuilder::build(const Batch& batch) {
  if (by_document_) return build_by_document(batch);
  start();
  Rows r = rows_;  // a local copy: the stores below could alias the counters of a member
  int active = batch.size;
  int64_t d = batch.first;
  for (int i = 0; i < batch.size; ++i) {
    tokens_[i] = batch.documents.begin(d);
    positions_[i] = batch.documents.positions(d, block_size_);
    weight_of_[i] = 1.0f / (static_cast<float>(batch.size) * static_cast<float>(positions_[i]));
    node_of_[i] = 0;
    active_[i] = i;
    if (++d == batch.documents.count) d = 0;
  }
  while (active > 0) {
    const Level level = open_level(r);
    int still_active = 0;
    for (int j = 0; j < active; ++j) {
      const int i = active_[j];
      const int node = place(r, level, node_of_[i], tokens_[i][level.t], weight_of_[i]);
      r.entry_node[r.entries] = node;
      r.entry_target[r.entries] = tokens_[i][level.t + 1];
      r.entry_weight[r.entries] = weight_of_[i];
      ++r.entries;
      node_of_[i] = node;
      active_[still_active] = i;
      still_active += positions_[i] > level.t + 1;
    }
    active = still_active;
    r.level_begin[++r.levels] = r.nodes;
  }
  rows_ = r;
}

void RowBuilder::grow(const int32_t* active, int count, const int32_t* token_of,
                      int32_t* node_of) {
  Rows r = rows_;
  const Level level = open_level(r);
  for (int j = 0; j < count; ++j)
    node_of[active[j]] = place(r, level, node_of[active[j]], token_of[active[j]], 0.0f);
  r.level_begin[++r.levels] = r.nodes;
  rows_ = r;
}

}  // namespace microgpt
