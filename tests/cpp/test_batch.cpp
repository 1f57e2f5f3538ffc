// The prefixes of a batch against the sets that define them.
#include <array>
#include <map>
#include <set>
#include <utility>

#include "check.h"

namespace microgpt {
namespace {

using Prefix = std::vector<int32_t>;

// Row (offset / kPanel) of each prefix, or of each pair, found so far: prefixes must agree on it.
template <class Key>
class Numbering {
 public:
  void expect(const Key& key, int offset, const char* what) {
    const auto inserted = row_of_.emplace(key, offset);
    check(inserted.first->second == offset, what);
    if (inserted.second) check(taken_.insert(offset).second, "rows are distinct");
  }
  int size() const { return static_cast<int>(row_of_.size()); }

 private:
  std::map<Key, int> row_of_;
  std::set<int> taken_;
};

void expect_prefixes(const Prefixes& prefixes, const Config& config, const Batch& batch,
                     bool share) {
  // Keys begin with 0 or, with sharing off, with the document's number in the batch.
  Numbering<std::pair<int, Prefix>> nodes;
  Numbering<std::array<int, 3>> pairs;  // token, position
  std::vector<double> weight(prefixes.nodes);
  double total = 0;
  int entry = 0, longest = 0;
  for (int i = 0; i < batch.size; ++i) {
    const int n = batch.documents.positions(batch.at(i), config.block_size);
    longest = n > longest ? n : longest;
  }
  CHECK(prefixes.levels == longest);
  CHECK(prefixes.level_begin[0] == 0 && prefixes.level_begin[longest] == prefixes.nodes);

  // Entries come position by position, and document by document within one.
  for (int t = 0; t < longest; ++t) {
    for (int i = 0; i < batch.size; ++i) {
      const int64_t d = batch.at(i);
      const int32_t* tokens = batch.documents.begin(d);
      const int n = batch.documents.positions(d, config.block_size);
      if (t >= n) continue;
      const int node = prefixes.entry_node[entry], key = share ? 0 : i;
      if (!check(entry < prefixes.entries && node >= 0 && node < prefixes.nodes, "entry's node"))
        return;
      CHECK(node >= prefixes.level_begin[t] && node < prefixes.level_begin[t + 1]);
      CHECK(prefixes.entry_target[entry] == tokens[t + 1]);
      // 1 / (B n), of a product that is exact and a quotient: one rounding.
      const double w = 1.0 / (static_cast<double>(batch.size) * n);
      CHECK(std::fabs(prefixes.entry_weight[entry] - w) <= kUnit * w);
      weight[node] += prefixes.entry_weight[entry];
      total += prefixes.entry_weight[entry];

      nodes.expect({key, Prefix(tokens, tokens + t + 1)}, node, "one node for each prefix");
      const int pair = prefixes.pair_of[node] / kPanel;
      if (!CHECK(pair >= 0 && pair < prefixes.pairs && prefixes.pair_of[node] % kPanel == 0))
        return;
      pairs.expect({key, tokens[t], t}, pair, "one pair for each token at a position");
      CHECK(prefixes.pair_token[pair] == tokens[t]);
      CHECK(prefixes.pair_position[pair] == t);
      for (int j = 0; j < prefixes.path_stride; ++j) {
        const int64_t at = int64_t{node} * prefixes.path_stride + j;
        if (j <= t) {
          pairs.expect({key, tokens[j], j}, prefixes.pair_path[at] / kPanel, "pair on the path");
          if (prefixes.node_path != nullptr)
            nodes.expect({key, Prefix(tokens, tokens + j + 1)}, prefixes.node_path[at] / kPanel,
                         "node on the path");
        } else if (j < (t + 4) / 4 * 4) {  // kernels read keys by four
          check(prefixes.pair_path[at] == 0, "the rest of a group of four is row 0");
          if (prefixes.node_path != nullptr)
            check(prefixes.node_path[at] == 0, "the rest of a group of four is row 0");
        }
      }
      ++entry;
    }
  }
  CHECK(entry == prefixes.entries);
  CHECK(nodes.size() == prefixes.nodes);
  CHECK(pairs.size() == prefixes.pairs);
  if (!share) CHECK(prefixes.pairs == prefixes.nodes);
  // Sums of at most `size` weights that all round once, and are then added in f32.
  CHECK(std::fabs(total - 1) <= prefixes.entries * kUnit);
  for (int n = 0; n < prefixes.nodes; ++n) {
    CHECK(std::fabs(prefixes.weight[n] - weight[n]) <= batch.size * kUnit * weight[n]);
    CHECK(prefixes.self[n] == n * kPanel);
    // Then nothing needs to be summed by pair.
    if (prefixes.pairs == prefixes.nodes) CHECK(prefixes.pair_of[n] == n * kPanel);
  }
}

// Several batches in one builder, from all over the corpus.
void test_batches(const Config& config, const Corpus& corpus, int batch_size, int trials = 5) {
  for (const bool share : {false, true}) {
    Builder built(config, batch_size, share);
    for (int trial = 0; trial < trials; ++trial) {
      const int64_t first = int64_t{trial} * batch_size % corpus.count();
      // Evaluation ends with a batch that is smaller than those there is room for.
      const int size = trial == trials - 1 ? (batch_size + 1) / 2 : batch_size;
      at_case("vocab %d, T %d, batch %d at %d%s", config.vocab_size, config.block_size, size,
              static_cast<int>(first), share ? ", sharing" : "");
      const Batch batch = corpus.batch(first, size);
      expect_prefixes(built.build(batch), config, batch, share);
    }
  }
}

// Batches of short documents go by level, in memory for those alone, and others by document.
void test_short_and_long() {
  Random random;
  const Config config{2, 4, 1, 9, 6};
  Corpus corpus = random_corpus(random, 12, config.vocab_size, 5);  // at most 6 positions
  corpus.add({5, 0, 1, 2, 3, 4, 0, 5});                             // 7
  Builder whole(config, 4, true), cut(config, 4, true, 6);
  for (int first = 0; first < 13; ++first) {
    at_case("short and long, batch at %d", first);
    const Batch batch = corpus.batch(first, 4);
    const Prefixes& prefixes = cut.build(batch);
    CHECK((prefixes.documents > 0) == (first > 8));
    if (prefixes.documents == 0) {
      expect_prefixes(prefixes, config, batch, true);
      CHECK(prefixes.path_stride == 8);
    } else {
      CHECK(prefixes.documents == 4 && prefixes.nodes == prefixes.entries);
      CHECK(prefixes.entries == whole.build(batch).entries);
    }
  }
  // One at a time, where most is the same in all steps; after a long one, and after generation.
  Builder alone(config, 1, true, 6);
  for (int turn = 0; turn < 3; ++turn)
    for (const int first : {0, 12, 3, 12, 5}) {
      at_case("short and long, alone, document %d", first);
      const Batch batch = corpus.batch(first, 1);
      const Prefixes& prefixes = alone.build(batch);
      if (first < 12) expect_prefixes(prefixes, config, batch, true);
      else CHECK(prefixes.documents == 1 && prefixes.nodes == 7 && prefixes.entries == 7);
      const int32_t active = 0;
      int32_t node = 0;
      alone.builder.start();
      const int32_t* tokens = batch.documents.begin(first);
      for (int t = 0; t < 6 && t < batch.documents.positions(first, 9); ++t)
        alone.builder.grow(&active, 1, tokens + t, &node);
    }
}

// Access to the private base of marks, by which those of earlier steps are known to be stale.
template <uint32_t PrefixBuilder::* member>
struct Access {
  friend uint32_t& base_of(PrefixBuilder& builder) { return builder.*member; }
};
uint32_t& base_of(PrefixBuilder& builder);
template struct Access<&PrefixBuilder::base_>;

// When the base has come to its end, no mark of earlier steps may be taken for a new one.
void test_marks_wrap() {
  Random random;
  const Config config{2, 4, 1, 6, 8};
  const Corpus corpus = random_corpus(random, 40, config.vocab_size, 8);
  Builder built(config, 10, true);
  built.build(corpus.batch(0, 10));
  base_of(built.builder) = UINT32_MAX - 100;
  for (int first : {10, 20, 30}) {
    at_case("marks wrap, batch at %d", first);
    const Batch batch = corpus.batch(first, 10);
    expect_prefixes(built.build(batch), config, batch, true);
  }
  CHECK(base_of(built.builder) < 1000);
}

// Prefixes that grow level by level, as in generation, are those of the batch that comes out.
void test_grow() {
  Random random;
  for (const bool share : {false, true}) {
    at_case("grow%s", share ? ", sharing" : "");
    const Config config{2, 4, 1, 6, 8};
    const Corpus corpus = random_corpus(random, 40, config.vocab_size, 8);
    Builder whole(config, 40, share), growing(config, 40, share);
    const Batch batch = corpus.batch(0, 40);
    const Prefixes& want = whole.build(batch);
    for (int turn = 0; turn < 2; ++turn) {
      std::vector<int32_t> node_of(40), token_of(40);
      growing.builder.start();
      for (int t = 0; t < want.levels; ++t) {
        std::vector<int32_t> active;
        for (int i = 0; i < batch.size; ++i) {
          if (t >= batch.documents.positions(i, config.block_size)) continue;
          active.push_back(i);
          token_of[i] = batch.documents.begin(i)[t];
        }
        growing.builder.grow(active.data(), static_cast<int>(active.size()), token_of.data(),
                             node_of.data());
      }
      const Prefixes& got = growing.builder.prefixes();
      const auto same = [](const int32_t* a, const int32_t* b, int count) {
        return std::memcmp(a, b, count * sizeof *a) == 0;
      };
      if (!CHECK(got.nodes == want.nodes && got.pairs == want.pairs && got.levels == want.levels))
        return;
      CHECK(same(got.level_begin, want.level_begin, want.levels + 1));
      CHECK(same(got.pair_of, want.pair_of, want.nodes));
      CHECK(same(got.pair_token, want.pair_token, want.pairs));
      CHECK(same(got.pair_position, want.pair_position, want.pairs));
      for (int n = 0, t = 0; n < want.nodes; ++n) {
        while (n >= want.level_begin[t + 1]) ++t;
        const int64_t at = int64_t{n} * want.path_stride;
        CHECK(same(got.pair_path + at, want.pair_path + at, t + 1));
        CHECK(same(got.node_path + at, want.node_path + at, t + 1));
      }
    }
  }
}

// Documents that are the same, begin another one, or are cut at T.
void test_prefixes() {
  Corpus corpus;
  corpus.add({9, 1, 2, 3, 9});
  corpus.add({9, 1, 2, 3, 9});
  corpus.add({9, 1, 9});
  corpus.add({9, 1, 2, 3, 4, 5, 6, 9});
  const Config config{2, 4, 1, 5, 10};
  for (const int batch_size : {1, 2, 3, 4, 9}) test_batches(config, corpus, batch_size);

  at_case("prefixes of one another");
  Builder built(config, 4, true);
  const Prefixes& prefixes = built.build(corpus.batch(0, 4));
  CHECK(prefixes.nodes == 5 && prefixes.pairs == 5 && prefixes.entries == 4 + 4 + 2 + 5);
  CHECK(std::fabs(prefixes.weight[0] - (1 / 4.0 + 1 / 4.0 + 1 / 2.0 + 1 / 5.0) / 4) <= 4 * kUnit);
  CHECK(std::fabs(prefixes.weight[4] - 1 / 20.0) <= kUnit);
}

}  // namespace
}  // namespace microgpt

int main() {
  using namespace microgpt;
  Random random;
  for (const int n_layer : {1, 2})
    for (const int T : {1, 3, 4, 5, 16})
      for (const int V : {2, 3, 27})
        for (const int batch_size : {1, 2, 5, 16, 17})
          test_batches({n_layer, 4, 1, T, V}, random_corpus(random, 11, V, T + 3), batch_size);
  // Many tokens under one parent.
  test_batches({1, 4, 1, 3, 5000}, random_corpus(random, 400, 5000, 4), 350, 2);
  test_prefixes();
  test_short_and_long();
  test_marks_wrap();
  test_grow();
  return result();
}
