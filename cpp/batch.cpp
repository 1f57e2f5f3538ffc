#include "batch.h"

#include <cstring>
#include <type_traits>

namespace microgpt {
namespace {

constexpr int kFewDocuments = 4;  // as many fill their lanes badly

// The path of `node` at level t: its parent's, then itself, then zeros to a multiple of four.
inline void extend(int32_t* paths, int stride, int node, int parent, int t, int32_t own) {
  int32_t* path = paths + int64_t{node} * stride;
  const int32_t* before = paths + int64_t{parent} * stride;
  for (int i = 0; i < t; i += 4) std::memcpy(path + i, before + i, 4 * sizeof(int32_t));
  if (t % 4 == 0) std::memset(path + t, 0, 4 * sizeof(int32_t));
  path[t] = own;
}

// One document shares nothing: each position is a level, a pair and a node of the same number. With
// a batch size of one this is so in all steps, and written once.
void number_alone(Prefixes& p, int positions) {
  p.level_begin[0] = 0;
  for (int t = 0; t < positions; ++t) {
    p.level_begin[t + 1] = t + 1;
    p.pair_of[t] = t * kPanel;
    p.pair_position[t] = p.entry_node[t] = t;
    const int parent = t > 0 ? t - 1 : 0;
    extend(p.pair_path, p.path_stride, t, parent, t, t * kPanel);
    if (p.node_path != nullptr) extend(p.node_path, p.path_stride, t, parent, t, t * kPanel);
  }
}

}  // namespace

void PrefixBuilder::create(Arena& arena, const Config& config, int batch_size, bool share,
                           int by_level) {
  *this = PrefixBuilder();
  const int64_t B = batch_size, T = config.block_size, V = config.vocab_size;
  const int64_t most = B * T + kPanel;  // nodes, where none is shared, and what lanes write beyond
  const int64_t levels = by_level < T ? by_level : T, stride = (levels + 3) / 4 * 4;
  const auto take = [&](auto*& pointer, int64_t count) {
    pointer = arena.take<std::remove_reference_t<decltype(*pointer)>>(count);
  };
  take(prefixes_.level_begin, T + 1);
  take(prefixes_.pair_of, most);
  take(prefixes_.self, most);
  take(prefixes_.document_begin, B + 1);
  take(prefixes_.pair_path, B * levels * stride + kPanel);
  if (config.n_layer > 1) take(prefixes_.node_path, B * levels * stride + kPanel);
  take(prefixes_.weight, most);
  take(prefixes_.pair_token, most);
  take(prefixes_.pair_position, most);
  take(prefixes_.entry_node, most);
  take(prefixes_.entry_target, most);
  take(prefixes_.entry_weight, most);
  take(child_, B * V);
  take(pair_, V);
  take(node_of_, B);
  take(active_, B);
  take(positions_, B);
  take(weight_of_, B);
  take(tokens_, B);
  if (share && T <= kPanel && B >= kFewDocuments && B * V <= INT32_MAX)
    take(lanes_, (B + kPanel - 1) / kPanel);
  if (arena.block == nullptr) return;

  prefixes_.path_stride = static_cast<int>(stride);
  block_size_ = config.block_size;
  vocab_size_ = config.vocab_size;
  share_ = share;
  by_level_ = static_cast<int>(levels);
  batch_size_ = batch_size;
  for (int i = 0; i < most; ++i) prefixes_.self[i] = i * kPanel;
  if (batch_size == 1) number_alone(prefixes_, by_level_);
}

void PrefixBuilder::start() {
  const uint32_t most = static_cast<uint32_t>(batch_size_) * static_cast<uint32_t>(block_size_);
  if (base_ > UINT32_MAX - 2 * most) {
    std::memset(
        child_, 0,
        sizeof(uint32_t) * static_cast<size_t>(batch_size_) * static_cast<size_t>(vocab_size_));
    std::memset(pair_, 0, sizeof(uint32_t) * static_cast<size_t>(vocab_size_));
    base_ = 1;
  } else {
    base_ += most;
  }
  prefixes_.nodes = prefixes_.pairs = prefixes_.entries = prefixes_.levels = 0;
  prefixes_.documents = 0;
  prefixes_.level_begin[0] = 0;
}

PrefixBuilder::Lanes PrefixBuilder::start_lanes(const Batch& batch) {
  if (lanes_ == nullptr || batch.size < kFewDocuments) return {};
  start();
  return {&prefixes_, lanes_, base_, child_, pair_, block_size_, vocab_size_};
}

PrefixBuilder::Level PrefixBuilder::open_level(const Prefixes& p) const {
  const int t = p.levels;
  return {t, t > 0 ? p.level_begin[t - 1] : 0, base_ + static_cast<uint32_t>(p.nodes),
          base_ + static_cast<uint32_t>(p.pairs)};
}

// The node of a prefix: `token` after the node `parent`. Whether it is new is as good as random, so
// nothing here branches on it: a prefix seen before writes again what is there already.
inline int PrefixBuilder::place(Prefixes& p, const Level& level, int parent, int token,
                                float weight) {
  uint32_t& mark = child_[static_cast<int64_t>(parent - level.before) * vocab_size_ + token];
  const bool known = share_ & (mark >= level.oldest_node);
  mark = known ? mark : base_ + static_cast<uint32_t>(p.nodes);
  const int node = static_cast<int>(mark - base_);
  p.nodes += !known;

  uint32_t& pair_mark = pair_[token];
  const bool pair_known = share_ & (pair_mark >= level.oldest_pair);
  pair_mark = pair_known ? pair_mark : base_ + static_cast<uint32_t>(p.pairs);
  const int pair = static_cast<int>(pair_mark - base_);
  p.pairs += !pair_known;

  p.weight[node] = (known ? p.weight[node] : 0.0f) + weight;
  p.pair_of[node] = pair * kPanel;
  p.pair_token[pair] = token;
  p.pair_position[pair] = level.t;
  extend(p.pair_path, p.path_stride, node, parent, level.t, pair * kPanel);
  if (p.node_path != nullptr)
    extend(p.node_path, p.path_stride, node, parent, level.t, node * kPanel);
  return node;
}

void PrefixBuilder::build_by_document(const Batch& batch) {
  Prefixes p = prefixes_;
  int n = 0;
  int64_t d = batch.first;
  for (p.documents = 0; p.documents < batch.size; ++p.documents) {
    const int32_t* tokens = batch.documents.begin(d);
    const int positions = batch.documents.positions(d, block_size_);
    const float weight = 1.0f / (static_cast<float>(batch.size) * static_cast<float>(positions));
    p.document_begin[p.documents] = n;
    for (int t = 0; t < positions; ++t, ++n) {
      p.pair_of[n] = n * kPanel;
      p.weight[n] = p.entry_weight[n] = weight;
      p.pair_token[n] = tokens[t];
      p.pair_position[n] = t;
      p.entry_node[n] = n;
      p.entry_target[n] = tokens[t + 1];
    }
    if (++d == batch.documents.count) d = 0;
  }
  p.document_begin[p.documents] = p.nodes = p.pairs = p.entries = n;
  prefixes_ = p;
}

void PrefixBuilder::build_alone(const Batch& batch) {
  Prefixes p = prefixes_;
  const int64_t d = batch.first;
  const int32_t* tokens = batch.documents.begin(d);
  const int positions = batch.documents.positions(d, block_size_);
  const float weight = 1.0f / static_cast<float>(positions);
  if (batch_size_ > 1) number_alone(p, positions);
  for (int t = 0; t < positions; ++t) {
    p.pair_token[t] = tokens[t];
    p.entry_target[t] = tokens[t + 1];
    p.weight[t] = p.entry_weight[t] = weight;
  }
  p.documents = 0;
  p.levels = p.nodes = p.pairs = p.entries = positions;
  prefixes_ = p;
}

void PrefixBuilder::build(const Batch& batch) {
  for (int i = 0; by_level_ < block_size_ && i < batch.size; ++i)
    if (batch.documents.positions(batch.at(i), block_size_) > by_level_)
      return build_by_document(batch);
  if (batch.size == 1) build_alone(batch);
  else build_by_level(batch);
}

void PrefixBuilder::build_by_level(const Batch& batch) {
  start();
  Prefixes p = prefixes_;  // a local copy: the stores below could alias the counters of a member
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
    const Level level = open_level(p);
    int still_active = 0;
    for (int j = 0; j < active; ++j) {
      const int i = active_[j];
      const int node = place(p, level, node_of_[i], tokens_[i][level.t], weight_of_[i]);
      p.entry_node[p.entries] = node;
      p.entry_target[p.entries] = tokens_[i][level.t + 1];
      p.entry_weight[p.entries] = weight_of_[i];
      ++p.entries;
      node_of_[i] = node;
      active_[still_active] = i;
      still_active += positions_[i] > level.t + 1;
    }
    active = still_active;
    p.level_begin[++p.levels] = p.nodes;
  }
  prefixes_ = p;
}

void PrefixBuilder::grow(const int32_t* active, int count, const int32_t* token_of,
                         int32_t* node_of) {
  Prefixes p = prefixes_;
  const Level level = open_level(p);
  for (int j = 0; j < count; ++j)
    node_of[active[j]] = place(p, level, node_of[active[j]], token_of[active[j]], 0.0f);
  p.level_begin[++p.levels] = p.nodes;
  prefixes_ = p;
}

}  // namespace microgpt
