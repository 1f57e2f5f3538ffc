// The model: its state in one block of memory, forward as a list of operations, backward as that
// list reversed, and the table that the ISA exports.
#pragma once
#include "attention.h"
#include "loss.h"
#include "mlp.h"
#include "norm.h"
#include "peak.h"
#include "sample.h"
#include "tiled_attention.h"

namespace microgpt {
namespace {

struct Layer {
  Matrix wqkv;  // (3A, C): attn_wq, wk and wv, each padded to A = heads.width() rows
  Matrix wo;    // (C, A)
  Mlp mlp;
  // Activations, with the words of docs/derivations.md. The rows of `a` and `qkv` are pairs in
  // layer 0 and nodes above it, all others are nodes. What backward does not need, and the
  // gradients, are the same memory in all layers.
  Panels a;                   // (C, keys) rms(x)
  Panels qkv;                 // (3A, keys)
  float* p;                   // attention's probabilities or, by tiles, the logarithms of the sums
  Panels y;                   // (A, nodes) attention output
  Panels x1;                  // (C, nodes) shared: x + y Wo^T
  Panels m;                   // (C, nodes) rms(x1)
  Panels x2;                  // (C, nodes) shared: x1 + h W2^T, the x of the next layer
  float* ra;                  // (keys) inverse norms of a
  float* rm;                  // (nodes) and of m
  Panels dx2, dx1, dy, dqkv;  // shared: gradients, each of the shape of its own
};

struct State {
  Config config;
  double beta1, beta2;
  AdamStep before;  // the last step
  Recent recent;
  Heads heads{Config{1, 1, 1, 1, 2}};
  PrefixBuilder builder;
  int capacity;  // rows that there is room for
  int key_groups;
  Table embedding;  // rows of tokens, then of positions:
  Table wte, wpe;   // its parts
  Matrix lm_head;
  Layer* layers;
  Panels x0;      // (C, pairs) rms(wte + wpe)
  float* r0;      // (pairs) its inverse norms
  Panels logits;  // (V, nodes), and what becomes of them: probabilities, gradients
  float* lse;     // (nodes) log sum exp of the logits
  float* nll;     // (entries) of the targets
  Panels dx0;     // (C, pairs)
  Panels dnorm;   // (C, rows) gradient of m, then of a
  float* ds;      // gradients of attention scores, reused from layer to layer
  float* tiles;   // (threads, TileScratch) for attention by tiles
};

// The one list of everything in the block, walked to count and to lay out.
size_t lay_out(State& s, char* block, const Setup& setup) {
  const Config& c = setup.config;
  s.config = c;
  s.beta1 = setup.beta1;
  s.beta2 = setup.beta2;
  // Attention goes by levels in batches of documents of so many positions, by tiles in others. Text
  // in blocks has no short documents, and needs no memory for levels.
  const bool by_tiles = tiled(c) && !setup.generates;
  const int levels = !by_tiles                       ? c.block_size
                     : setup.longest >= kLongContext ? 0
                                                     : kLongContext - 1;
  s.heads = Heads(c, by_tiles);
  const int C = c.n_embd, A = s.heads.width(), V = c.vocab_size;
  // Rows are worked on in fours, from any row on.
  const auto capacity = [&](int positions) {
    return (setup.batch_size * positions + 3 + kPanel - 1) / kPanel * kPanel;
  };
  s.capacity = capacity(c.block_size);
  s.key_groups = (levels + 3) / 4;

  Arena arena{block};
  arena.take<State>(1);
  s.layers = arena.take<Layer>(c.n_layer);
  s.recent.steps = arena.take<Adam>(Recent::kept);
  s.builder.create(arena, c, setup.batch_size, setup.prefix_sharing, levels);

  // Panels of a power of two do not all start in the same set of the cache. And a load waits for an
  // earlier store whose address has the same last twelve bits: arrays that are walked side by side
  // get phases of their own.
  arena.gap = kLine;
  // With few rows a second copy of the weights costs more to keep than to do without.
  const bool few = setup.batch_size < kPanel && setup.batch_size * c.block_size <= 2 * kPanel;
  const auto place = [&](int outs, int ins, bool outs_in_lanes, bool by_row, int phase) {
    Matrix m{};
    m.outs = outs;
    m.ins = ins;
    m.outs_in_lanes = outs_in_lanes;
    m.by_row = by_row;
    m.p = arena.take<float>(m.size(), phase);
    if (!m.by_row && !(few && Vec::accumulators >= 24))
      m.q = arena.take<float>(m.size(), phase + 2);
    m.m = arena.take<float>(m.size(), phase + 4);
    m.v = arena.take<float>(m.size(), phase + 6);
    m.g = arena.take<float>(m.size());
    return m;
  };
  const auto matrix = [&](int outs, int ins) {
    return place(outs, ins, panels_of(outs) >= panels_of(ins), false, 0);
  };
  const auto table = [&](int rows) {
    Table t{};
    t.rows = rows;
    t.width = panels_of(C) * kPanel;
    t.p = arena.take<float>(t.size(), 0);
    t.m = arena.take<float>(t.size(), 2);
    t.v = arena.take<float>(t.size(), 4);
    t.g = arena.take<float>(t.size());
    return t;
  };
  const auto panels = [&](int features) {
    const int64_t stride = int64_t{s.capacity} * kPanel + kPanel;
    return Panels{arena.take<float>(panels_of(features) * stride), stride};
  };
  const int row_panels = s.capacity / kPanel;
  // (row panels, features, 16 rows); a line between panels, so that those of a feature are not all
  // in the same set of the cache.
  const auto by_rows_of = [&](int features) {
    const int64_t stride = (int64_t{panels_of(features)} * kPanel + 1) * kPanel;
    return Panels{arena.take<float>(row_panels * stride), stride};
  };
  const auto mlp_of = [&](const Mlp& shared) {
    Mlp mlp = shared;
    if (!mlp.by_unit) {
      mlp.fc1 = matrix(4 * C, C);
      mlp.fc2 = matrix(C, 4 * C);
      mlp.h = panels(4 * C);
      return mlp;
    }
    mlp.fc1 = place(4 * C, C, false, true, 0);
    mlp.fc2 = place(C, 4 * C, true, true, 1);
    mlp.h = by_rows_of(4 * C);
    const int64_t padded = mlp.mask_units;
    mlp.active = arena.take<uint16_t>(row_panels * padded);
    mlp.list = arena.take<int32_t>(row_panels * mlp.list_size());
    mlp.bits = arena.take<uint64_t>(int64_t{s.capacity} * padded / 64);
    mlp.begin = arena.take<int32_t>(s.capacity);
    mlp.count = arena.take<int32_t>(s.capacity);
    mlp.way = arena.take<Way>(row_panels);
    mlp.tiles = arena.take<int32_t>(panels_of(4 * C));
    mlp.still = arena.take<int32_t>(padded);
    mlp.due = arena.take<int32_t>(padded);
    return mlp;
  };
  const auto scalars = [&] { return arena.take<float>(s.capacity); };
  const int64_t scores = int64_t{capacity(levels)} * s.heads.groups * s.key_groups * kPanel;
  const int64_t sums = by_tiles ? int64_t{s.capacity + kPanel} * s.heads.groups : 0;

  s.embedding = table(V + c.block_size);
  if (block != nullptr) {  // else there is nothing to take a part of
    s.wte = s.embedding.part(0, V);
    s.wpe = s.embedding.part(V, c.block_size);
  }
  s.lm_head = matrix(V, C);
  Mlp shared_mlp{};  // what the layers share
  shared_mlp.units = 4 * C;
  shared_mlp.few = few;
  shared_mlp.narrow = !Vec::compact && few && panels_of(C) <= 2;
  shared_mlp.by_unit = panels_of(C) > 1 || shared_mlp.narrow;
  shared_mlp.skip_zeros = setup.skip_zeros;
  shared_mlp.recent = &s.recent;
  shared_mlp.mask_units = (4 * C + 63) / 64 * 64;
  if (shared_mlp.by_unit) {
    shared_mlp.dh = by_rows_of(4 * C);
    shared_mlp.mt = by_rows_of(C);
    const int64_t stride = strip_of(C);
    shared_mlp.dx2_rows = Strips{arena.take<float>(s.capacity * stride), stride};
  } else {
    shared_mlp.dh = panels(4 * C);
  }
  Layer shared{};
  shared.x1 = panels(C);
  shared.x2 = panels(C);
  shared.dx2 = panels(C);
  shared.dx1 = panels(C);
  shared.dy = panels(A);
  shared.dqkv = panels(3 * A);
  for (int i = 0; i < c.n_layer; ++i) {
    Layer l = shared;
    l.wqkv = matrix(3 * A, C);
    l.wo = matrix(C, A);
    l.mlp = mlp_of(shared_mlp);
    l.a = panels(C);
    l.qkv = panels(3 * A);
    l.p = arena.take<float>(scores > sums ? scores : sums);
    l.y = panels(A);
    l.m = panels(C);
    l.ra = scalars();
    l.rm = scalars();
    if (s.layers != nullptr) s.layers[i] = l;
  }
  s.x0 = panels(C);
  s.r0 = scalars();
  s.logits = panels(V);
  s.lse = scalars();
  s.nll = scalars();
  s.dx0 = panels(C);
  s.dnorm = panels(C);
  s.ds = arena.take<float>(scores);
  if (by_tiles) s.tiles = arena.take<float>(setup.threads * TileScratch::floats(c));
  return arena.used;
}

// Rows that layer i computes q, k and v for.
int key_rows(const Prefixes& prefixes, int layer) {
  return layer == 0 ? prefixes.pairs : prefixes.nodes;
}

Attention attention(const State& s, const Layer& l, int layer, const Prefixes& prefixes) {
  return {s.heads,
          l.qkv,
          l.dqkv,
          l.y,
          l.dy,
          l.p,
          s.ds,
          s.key_groups,
          layer == 0 ? prefixes.pair_of : prefixes.self,
          layer == 0 ? prefixes.pair_path : prefixes.node_path,
          &prefixes};
}

TiledMemory tiled_memory(const State& s, const Layer& l, const Share& share) {
  const int64_t floats = TileScratch::floats(s.config);
  return {l.p, s.capacity + kPanel, TileScratch(s.config, s.tiles + share.rank * floats)};
}

// Adds the time since the last mark to a phase; without ticks it is nothing at all.
struct Silent {
  PYMICROGPT_INLINE void mark(Phase) {}
};
struct Stopwatch {
  uint64_t* ticks;
  uint64_t last;

  PYMICROGPT_INLINE explicit Stopwatch(uint64_t* t) : ticks(t), last(now()) {}
  PYMICROGPT_INLINE void mark(Phase phase) {
    const uint64_t t = now();
    ticks[static_cast<int>(phase)] += t - last;
    last = t;
  }
};

// What one thread of a step works with. Rows are shared out among the threads: everything on a row
// needs that row alone, except attention, which needs the keys of others and so waits for them.
template <class Clock>
struct Worker {
  State& s;
  const Prefixes& prefixes;
  const Call& call;
  Share share;
  Clock clock;

  PYMICROGPT_INLINE void wait() {
    if (call.size > 1) call.barrier(call.team);
  }
};

// The logits of the nodes of a span; before attention, the pairs of another.
template <class Clock>
void logits(Worker<Clock>& w, Span pairs, Span nodes) {
  State& s = w.s;
  const Prefixes& prefixes = w.prefixes;
  const int C = s.config.n_embd, pc = panels_of(C);
  embed_forward(s.x0, s.r0, s.wte, s.wpe, prefixes, pc, pairs, C);
  Panels x = s.x0;
  for (int i = 0; i < s.config.n_layer; ++i) {
    Layer& l = s.layers[i];
    const Span keys = i == 0 ? pairs : nodes;
    rms_forward(l.a, l.ra, x, pc, keys, C);
    w.clock.mark(Phase::embedding_norms);
    forward(l.wqkv, l.a, keys, Store{l.qkv});
    w.clock.mark(Phase::qkv);
    w.wait();
    const Attention attend = attention(s, l, i, prefixes);
    if (!Vec::compact && prefixes.documents > 0)
      tiled_attention_forward(attend, tiled_memory(s, l, w.share), nodes);
    else attention_forward(attend, nodes);
    w.clock.mark(Phase::attention_forward);
    forward(l.wo, l.y, nodes, Residual{l.x1, x, i == 0 ? prefixes.pair_of : prefixes.self});
    w.clock.mark(Phase::forward_matrices);
    rms_forward(l.m, l.rm, l.x1, pc, nodes, C);
    w.clock.mark(Phase::embedding_norms);
    mlp_forward(l.mlp, l.m, l.x1, l.x2, prefixes.self, nodes);
    w.clock.mark(Phase::mlp_forward);
    x = l.x2;
  }
  forward(s.lm_head, x, nodes, Store{s.logits});
  w.clock.mark(Phase::forward_matrices);
}

template <class Clock>
void forward(Worker<Clock>& w) {
  const Span nodes = w.share.of(w.prefixes.nodes);
  logits(w, w.share.of(w.prefixes.pairs), nodes);
  cross_entropy(w.s.logits, w.s.lse, w.s.nll, w.prefixes, nodes, w.s.config.vocab_size);
  w.clock.mark(Phase::softmax_loss);
}

// Forward reversed: first what is by row, then, when all rows are there, what sums over them. Every
// weight is used for its input gradient before Adam updates it.
template <class Clock>
void backward(Worker<Clock>& w, const Adam* adam, bool calm) {
  State& s = w.s;
  const Prefixes& prefixes = w.prefixes;
  const int C = s.config.n_embd, pc = panels_of(C), last = s.config.n_layer - 1, n = prefixes.nodes;
  const Span nodes = w.share.of(n), pairs = w.share.of(prefixes.pairs);
  input_gradient(s.lm_head, s.logits, nodes, Store{s.layers[last].dx2});
  w.clock.mark(Phase::input_gradients);
  for (int i = last; i >= 0; --i) {
    Layer& l = s.layers[i];
    const int keys = key_rows(prefixes, i);
    const Attention attend = attention(s, l, i, prefixes);
    mlp_backward(l.mlp, l.dx2, s.dnorm, nodes, n);
    w.clock.mark(Phase::mlp_backward);
    rms_backward(l.dx1, s.dnorm, l.m, l.rm, pc, nodes, C, l.dx2);
    w.clock.mark(Phase::norms_backward);
    input_gradient(l.wo, l.dx1, nodes, Store{l.dy});
    w.clock.mark(Phase::input_gradients);
    if (prefixes.documents == 0 && !one_pass(attend, w.share)) scores_backward(attend, nodes);
    w.clock.mark(Phase::attention_backward);
    w.wait();
    if (!Vec::compact && prefixes.documents > 0)
      tiled_attention_backward(attend, tiled_memory(s, l, w.share), w.share);
    else attention_backward(attend, keys, w.share);
    w.clock.mark(Phase::attention_backward);
    mlp_weights(l.mlp, l.m, l.dx2, n, adam, calm, w.share);
    w.clock.mark(Phase::mlp_weights_adam);
    if (i == last) weight_gradient(s.logits, l.x2, n, s.lm_head, adam, w.share);
    weight_gradient(l.dx1, l.y, n, l.wo, adam, w.share);
    w.clock.mark(Phase::weight_gradients_adam);
    w.wait();
    input_gradient(l.wqkv, l.dqkv, w.share.of(keys), Store{s.dnorm});
    w.clock.mark(Phase::input_gradients);
    const Panels dx = i == 0 ? s.dx0 : s.layers[i - 1].dx2;
    const bool by_pair = i == 0 && prefixes.pairs < n;  // else each node is a pair of its own
    if (by_pair) sum_by_pair(s.dx0, l.dx1, prefixes, pc, pairs);
    rms_backward(dx, s.dnorm, l.a, l.ra, pc, w.share.of(keys), C, by_pair ? s.dx0 : l.dx1);
    w.clock.mark(Phase::norms_backward);
    w.wait();
    weight_gradient(l.dqkv, l.a, keys, l.wqkv, adam, w.share);
    w.clock.mark(Phase::weight_gradients_adam);
  }
  rms_backward(s.dx0, s.dx0, s.x0, s.r0, pc, pairs, C, Panels{});
  w.wait();
  if (w.share.mine()) embed_backward(s.embedding, s.config.vocab_size, s.dx0, prefixes, pc, adam);
  w.clock.mark(Phase::embedding_adam);
}

// One thread's part of a call; all of them run it. The loss, of rank 0.
template <class Clock>
double run(State& s, const Call& call, const Adam* adam, Clock clock) {
  const FlushDenormals flush;
  Worker<Clock> w{s, s.builder.prefixes(), call, {call.rank, call.size}, clock};
  if (call.rank == 0) {
    build_prefixes(s.builder, *call.batch);
    for (int i = 0; i < s.config.n_layer; ++i) let_wait(s.layers[i].mlp, call.size == 1);
  }
  w.clock.mark(Phase::batch);
  w.wait();
  forward(w);
  if (call.backward) backward(w, adam, adam != nullptr && calm(s.before, *call.adam));
  w.wait();
  if (call.rank == 0 && adam != nullptr) {
    s.before = *call.adam;
    s.recent.add(*adam);
  }
  return call.rank == 0 ? total_loss(s.nll, w.prefixes) : 0.0;
}

// Documents drawn token by token, all at once and level by level: prefixes that several of them
// share are computed once. Where the context is full, all begin anew with their last T / 2 tokens.
// tokens (count, most), lengths (count); count <= the batch size of the state.
void generate(State& s, const Draw& draw) {
  const FlushDenormals flush;
  const int T = s.config.block_size, bos = s.config.vocab_size - 1;
  const Call alone{};
  Worker<Silent> w{s, s.builder.prefixes(), alone, {0, 1}, {}};
  const auto tokens_of = [&](int i) { return draw.tokens + int64_t{i} * draw.most; };
  int active = draw.count;
  for (int i = 0; i < draw.count; ++i) {
    draw.active[i] = i;
    draw.lengths[i] = draw.prompt_length;
    for (int t = 0; t < draw.prompt_length; ++t) tokens_of(i)[t] = draw.prompt[t];
  }
  int first = draw.prompt_length < T ? 0 : draw.prompt_length - T + 1;  // token seen after BOS
  int seen = T;                                                         // BOS and those after it
  for (int t = draw.prompt_length; t < draw.most && active > 0; ++t) {
    if (seen == T) {
      if (t > draw.prompt_length) first = t - T / 2;
      seen = 0;
      s.builder.start();
      for (int j = 0; j < active; ++j) draw.node_of[draw.active[j]] = 0;
    }
    // All that the model has not seen, in one forward pass.
    const Span before{w.prefixes.pairs, w.prefixes.nodes};
    int level = before.last;  // where the nodes of the last token begin
    for (; seen <= t - first; ++seen) {
      for (int j = 0; j < active; ++j) {
        const int i = draw.active[j];
        draw.token_of[i] = seen == 0 ? bos : tokens_of(i)[first + seen - 1];
      }
      level = w.prefixes.nodes;
      s.builder.grow(draw.active, active, draw.token_of, draw.node_of);
    }
    logits(w, {before.first, w.prefixes.pairs}, {before.last, w.prefixes.nodes});
    const Span nodes{level, w.prefixes.nodes};
    if (draw.top_k > 0) keep_top(s.logits, nodes, s.config.vocab_size, draw.top_k);
    cumulate(s.logits, nodes, s.config.vocab_size, static_cast<float>(1.0 / draw.temperature));
    int still_active = 0;
    for (int j = 0; j < active; ++j) {
      const int i = draw.active[j];
      const float* row = s.logits.at(0, int64_t{draw.node_of[i]} * kPanel);
      const int token =
          pick(row, s.logits.stride, s.config.vocab_size,
               uniform(draw.seed, static_cast<uint64_t>(draw.first + i), static_cast<uint64_t>(t)));
      tokens_of(i)[t] = token;
      draw.lengths[i] += token != bos;
      draw.active[still_active] = i;
      still_active += token != bos;
    }
    active = still_active;
  }
}

// The array of a slot, of a Table or a Matrix.
template <class T>
PYMICROGPT_INLINE float* array_of(const T& t, Slot slot) {
  return slot == Slot::parameter       ? t.p
         : slot == Slot::first_moment  ? t.m
         : slot == Slot::second_moment ? t.v
                                       : t.g;
}

// The Table or Matrix that holds a tensor. Element (o, i) of the tensor is at (first_out + o, i)
// there, or, by head, where the heads have that feature.
struct Place {
  const Table* table;
  const Matrix* matrix;
  int first_out = 0;
  const Heads *outs = nullptr, *ins = nullptr;  // by head, where not null

  PYMICROGPT_INLINE int64_t size() const {
    return table != nullptr ? table->size() : matrix->size();
  }
  PYMICROGPT_INLINE float* array(Slot slot) const {
    return table != nullptr ? array_of(*table, slot) : array_of(*matrix, slot);
  }
  PYMICROGPT_INLINE float* transposed() const { return matrix != nullptr ? matrix->q : nullptr; }
  PYMICROGPT_INLINE int out(int o) const { return outs != nullptr ? first_out + outs->at(o) : o; }
  PYMICROGPT_INLINE int in(int i) const { return ins != nullptr ? ins->at(i) : i; }
  PYMICROGPT_INLINE int64_t at(int o, int i) const {
    return table != nullptr ? table->at(o, i) : matrix->at(out(o), in(i));
  }
  PYMICROGPT_INLINE int64_t transposed_at(int o, int i) const {
    return matrix->transposed_at(out(o), in(i));
  }
};

Place place_of(const State& s, Param p, int layer) {
  const Layer& l = s.layers[layer];
  const Heads* heads = &s.heads;
  const int width = heads->width();
  switch (p) {
    case Param::wte:
      return {&s.wte, nullptr};
    case Param::wpe:
      return {&s.wpe, nullptr};
    case Param::lm_head:
      return {nullptr, &s.lm_head};
    case Param::attn_wq:
      return {nullptr, &l.wqkv, 0, heads};
    case Param::attn_wk:
      return {nullptr, &l.wqkv, width, heads};
    case Param::attn_wv:
      return {nullptr, &l.wqkv, 2 * width, heads};
    case Param::attn_wo:
      return {nullptr, &l.wo, 0, nullptr, heads};
    case Param::mlp_fc1:
      return {nullptr, &l.mlp.fc1};
    case Param::mlp_fc2:
      return {nullptr, &l.mlp.fc2};
  }
  return {};
}

// Zeros, padding included: what is not a number would spread over the padding, and stay there.
void clear_slot(const State& s, Slot slot) {
  each_tensor(s.config, [&](Param p, int layer) {
    const Place place = place_of(s, p, layer);
    for (float* array : {place.array(slot), slot == Slot::parameter ? place.transposed() : nullptr})
      for (int64_t i = 0; array != nullptr && i < place.size(); i += kPanel)
        Vec16::set(0.0f).store(array + i);
  });
}

// f(natural index, pointer into the slot, pointer to the transposed copy or null) for every
// element.
template <class F>
void each_element(const State& s, Slot slot, F f) {
  int64_t natural = 0;
  each_tensor(s.config, [&](Param p, int layer) {
    const Place place = place_of(s, p, layer);
    float *const array = place.array(slot), *const transposed = place.transposed();
    const int64_t rows = length_of(kind_of(p).rows, s.config);
    const int64_t columns = length_of(kind_of(p).columns, s.config);
    for (int o = 0; o < rows; ++o)
      for (int i = 0; i < columns; ++i)
        f(natural++, array + place.at(o, i),
          transposed == nullptr ? nullptr : transposed + place.transposed_at(o, i));
  });
}

// Moments are kept divided by 1 - beta.
double scale_of(const State& s, Slot slot) {
  return slot == Slot::first_moment    ? 1.0 - s.beta1
         : slot == Slot::second_moment ? 1.0 - s.beta2
                                       : 1.0;
}

// Moments of units that stand still, brought up to date.
void wake_all(State& s) {
  const FlushDenormals flush;
  for (int i = 0; i < s.config.n_layer; ++i)
    catch_up_all(s.layers[i].mlp, static_cast<float>(s.beta1), static_cast<float>(s.beta2));
}

State& state_of(void* state) { return *static_cast<State*>(state); }

constexpr Kernels table() {
  return {
      Vec::lanes,
      true,
      [](const Setup& setup) {
        State counting{};
        return lay_out(counting, nullptr, setup);
      },
      [](void* state, const Setup& setup) {
        State& s = state_of(state);
        s = State{};
        lay_out(s, static_cast<char*>(state), setup);
      },
      [](void* state, Slot slot, const double* natural) {
        State& s = state_of(state);
        const double scale = scale_of(s, slot);
        wake_all(s);
        clear_slot(s, slot);
        each_element(s, slot, [&](int64_t i, float* value, float* transposed) {
          *value = static_cast<float>(natural[i] / scale);
          if (slot == Slot::parameter && transposed != nullptr) *transposed = *value;
        });
        for (int i = 0; i < s.config.n_layer; ++i)
          s.layers[i].mlp.not_finite = !finite(s.layers[i].mlp);
      },
      [](const void* state, Slot slot, double* natural) {
        State& s = state_of(const_cast<void*>(state));
        const double scale = scale_of(s, slot);
        wake_all(s);
        each_element(s, slot,
                     [&](int64_t i, float* value, float*) { natural[i] = *value * scale; });
      },
      [](void* state, const Call& call) {
        const Adam adam(call.adam != nullptr ? *call.adam : AdamStep{});
        const Adam* update = call.adam != nullptr ? &adam : nullptr;
        if (!Vec::compact && call.ticks != nullptr && call.rank == 0)
          return run(state_of(state), call, update, Stopwatch(call.ticks));
        return run(state_of(state), call, update, Silent());
      },
      [](void* state, const Draw& draw) { generate(state_of(state), draw); },
      [](const void* state) {
        State& s = state_of(const_cast<void*>(state));
        Activity mean;
        const int rows = s.builder.prefixes().nodes;
        for (int i = 0; rows > 0 && i < s.config.n_layer; ++i) {
          const Activity layer = activity_of(s.layers[i].mlp, rows);
          mean.values += layer.values / s.config.n_layer;
          mean.units += layer.units / s.config.n_layer;
          mean.resting += layer.resting / s.config.n_layer;
        }
        return mean;
      },
      fma_loop,
      read_loop,
  };
}

}  // namespace
}  // namespace microgpt
