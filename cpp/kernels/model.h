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
  Matrix qkv, wo;
  Mlp mlp;
  // Activations; the rows of `a` and `qkv_out` are pairs in layer 0 and nodes above it. Those that
  // backward does not need, and the gradients, are the same memory in all layers.
  Panels a;        // rms(x)
  Panels qkv_out;  // q, k, v
  float* p;        // attention probabilities or, by tiles, the logarithms of the sums
  Panels o;        // attention output
  Panels x1;       // shared: x + attention
  Panels b;        // rms(x1)
  Panels x2;       // shared: x1 + mlp
  float *ra, *rb;  // inverse norms of a and b
  // Shared. Gradients: of x2, of x1, and of what the weights' products gave.
  Panels dx2, dx1, dout, dqkv;
};

// Hands out the pieces of the state's block, or, with none, only counts their bytes. A cache line is
// left between pieces, so that panels of a power of two do not all start in the same set.
struct Arena {
  char* block;
  size_t used = 0;

  // The same, `phase` eighths of a page into a page. A load waits for an earlier store whose address
  // has the same last twelve bits: arrays that are walked side by side get phases of their own.
  float* take(int64_t floats, int phase) {
    constexpr size_t page = 4096;
    used += (static_cast<size_t>(phase) * (page / 8) - used) % page;
    return take(floats);
  }
  float* take(int64_t floats) {
    float* piece = block == nullptr ? nullptr : reinterpret_cast<float*>(block + used);
    used += (static_cast<size_t>(floats) * sizeof(float) + 63) / 64 * 64 + 64;
    return piece;
  }
};

struct State {
  Config config;
  double beta1, beta2;
  AdamStep before;  // the last step
  Heads heads{Config{1, 1, 1, 1, 2}};
  RowBuilder builder;
  int capacity;  // rows that there is room for
  int key_groups;
  Table wte, wpe;
  Matrix lm_head;
  Layer* layers;
  Panels x0;      // rms(wte + wpe), by pair
  float* r0;
  Panels logits;
  float *lse, *nll;  // nll by entry
  Panels dx0;        // gradient of x0, by pair
  Panels scratch;
  float* ds;         // gradients of attention scores, reused from layer to layer
  bool tiled;        // attention goes by tiles, in place of ds:
  float* tiles;      // (threads, TileScratch)
};

// The one list of everything in the block, walked to count and to lay out.
size_t lay_out(State& s, char* block, const Setup& setup) {
  const Config& c = setup.config;
  s.config = c;
  s.beta1 = setup.beta1;
  s.beta2 = setup.beta2;
  s.tiled = tiled(c) && !setup.generates;
  s.heads = Heads(c, s.tiled);
  const int C = c.n_embd, A = s.heads.width(), V_ = c.vocab_size;
  // Rows are worked on in fours, from any row on.
  s.capacity = (setup.batch_size * c.block_size + 3 + kPanel - 1) / kPanel * kPanel;
  s.key_groups = (c.block_size + 3) / 4;

  Arena arena{block, (sizeof(State) + 63) / 64 * 64};
  const size_t layers_at = arena.used;
  arena.used += (sizeof(Layer) * static_cast<size_t>(c.n_layer) + 63) / 64 * 64;
  s.layers = block == nullptr ? nullptr : reinterpret_cast<Layer*>(block + layers_at);
  const size_t rows_at = arena.used;
  using Order = RowBuilder::Order;
  const Order order = s.tiled ? Order::by_document
                              : setup.prefix_sharing ? Order::shared : Order::separate;
  arena.used += RowBuilder::bytes(c, setup.batch_size, order);
  if (block != nullptr) s.builder.create(block + rows_at, c, setup.batch_size, order);

  // With few rows a second copy of the weights costs more to keep than to do without.
  const bool few = panels_of(C) > 1 && setup.batch_size < kPanel && setup.batch_size * c.block_size <= 2 * kPanel;
  const auto place = [&](int outs, int ins, bool outs_in_lanes, bool by_row, int phase) {
    Matrix m{};
    m.outs = outs;
    m.ins = ins;
    m.outs_in_lanes = outs_in_lanes;
    m.by_row = by_row;
    m.p = arena.take(m.size(), phase);
    if (!m.by_row && !(few && V::accumulators >= 24)) m.q = arena.take(m.size(), phase + 2);
    m.m = arena.take(m.size(), phase + 4);
    m.v = arena.take(m.size(), phase + 6);
    m.g = arena.take(m.size());
    return m;
  };
  const auto matrix = [&](int outs, int ins) {
    return place(outs, ins, panels_of(outs) >= panels_of(ins), false, 0);
  };
  const auto table = [&](int rows) {
    Table t{};
    t.rows = rows;
    t.width = panels_of(C) * kPanel;
    t.p = arena.take(t.size(), 0);
    t.m = arena.take(t.size(), 2);
    t.v = arena.take(t.size(), 4);
    t.g = arena.take(t.size());
    return t;
  };
  const auto panels = [&](int features) {
    const int64_t stride = int64_t{s.capacity} * kPanel + kPanel;
    return Panels{arena.take(panels_of(features) * stride), stride};
  };
  const auto ints = [&](int64_t count) {
    return reinterpret_cast<int32_t*>(arena.take(count));
  };
  const int row_panels = s.capacity / kPanel;
  // (row panels, features, 16 rows); a line between panels, so that those of a feature are not all in
  // the same set of the cache.
  const auto by_rows_of = [&](int features) {
    const int64_t stride = (int64_t{panels_of(features)} * kPanel + 1) * kPanel;
    return Panels{arena.take(row_panels * stride), stride};
  };
  const auto mlp = [&](const Mlp& scratch) {
    Mlp m = scratch;
    if (!m.by_unit) {
      m.fc1 = matrix(4 * C, C);
      m.fc2 = matrix(C, 4 * C);
      m.h = panels(4 * C);
      return m;
    }
    m.fc1 = place(4 * C, C, false, true, 0);
    m.fc2 = place(C, 4 * C, true, true, 1);
    m.h = by_rows_of(4 * C);
    const int64_t padded = m.mask_units;
    m.active = reinterpret_cast<uint16_t*>(arena.take(row_panels * padded / 2));
    m.list = ints(row_panels * m.list_size());
    m.bits = reinterpret_cast<uint64_t*>(arena.take(int64_t{s.capacity} * padded / 32));
    m.begin = ints(s.capacity);
    m.count = ints(s.capacity);
    m.way = reinterpret_cast<Way*>(ints(row_panels));
    m.tiles = ints(panels_of(4 * C));
    m.still = ints(padded);
    return m;
  };
  const auto scalars = [&] { return arena.take(s.capacity); };
  const int64_t scores = int64_t{s.capacity + (s.tiled ? kPanel : 0)} * s.heads.groups *
                         (s.tiled ? 1 : s.key_groups * kPanel);

  s.wte = table(V_);
  s.wpe = table(c.block_size);
  s.lm_head = matrix(V_, C);
  Mlp scratch{};  // what the layers share
  scratch.units = 4 * C;
  scratch.few = few;
  scratch.by_unit = panels_of(C) > 1;
  scratch.skip_zeros = setup.skip_zeros;
  scratch.mask_units = (4 * C + 63) / 64 * 64;
  if (scratch.by_unit) {
    scratch.dh = by_rows_of(4 * C);
    scratch.bt = by_rows_of(C);
    const int64_t stride = strip_of(C);
    scratch.b_rows = Strips{arena.take(s.capacity * stride), stride};
    scratch.dx2_rows = Strips{arena.take(s.capacity * stride), stride};
  } else {
    scratch.dh = panels(4 * C);
  }
  Layer shared{};
  shared.x1 = panels(C);
  shared.x2 = panels(C);
  shared.dx2 = panels(C);
  shared.dx1 = panels(C);
  shared.dout = panels(A);
  shared.dqkv = panels(3 * A);
  for (int i = 0; i < c.n_layer; ++i) {
    Layer l = shared;
    l.qkv = matrix(3 * A, C);
    l.wo = matrix(C, A);
    l.mlp = mlp(scratch);
    l.a = panels(C);
    l.qkv_out = panels(3 * A);
    l.p = arena.take(scores);
    l.o = panels(A);
    l.b = panels(C);
    l.ra = scalars();
    l.rb = scalars();
    if (s.layers != nullptr) s.layers[i] = l;
  }
  s.x0 = panels(C);
  s.r0 = scalars();
  s.logits = panels(V_);
  s.lse = scalars();
  s.nll = scalars();
  s.dx0 = panels(C);
  s.scratch = panels(C);
  if (s.tiled) s.tiles = arena.take(setup.threads * TileScratch::floats(c));
  else s.ds = arena.take(scores);
  return arena.used;
}

// Rows that layer i computes q, k and v for.
int key_rows(const Rows& rows, int layer) { return layer == 0 ? rows.pairs : rows.nodes; }

Attention attention(const State& s, const Layer& l, int layer, const Rows& rows) {
  return {s.heads, l.qkv_out, l.dqkv, l.o, l.dout, l.p, s.ds, s.key_groups,
          layer == 0 ? rows.pair_of : rows.self,
          layer == 0 ? rows.pair_path : rows.node_path, &rows};
}

LongRows long_rows(const State& s, const Layer& l, const Share& share) {
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
  const Rows& rows;
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
  const Rows& rows = w.rows;
  const int C = s.config.n_embd, pc = panels_of(C);
  embed_forward(s.x0, s.r0, s.wte, s.wpe, rows, pc, pairs, C);
  Panels x = s.x0;
  for (int i = 0; i < s.config.n_layer; ++i) {
    Layer& l = s.layers[i];
    const Span keys = i == 0 ? pairs : nodes;
    rms_forward(l.a, l.ra, x, pc, keys, C);
    w.clock.mark(Phase::embedding_norms);
    forward(l.qkv, l.a, keys, Store{l.qkv_out});
    w.clock.mark(Phase::qkv);
    w.wait();
    const Attention attend = attention(s, l, i, rows);
    if (!V::compact && s.tiled) tiled_attention_forward(attend, long_rows(s, l, w.share), nodes);
    else attention_forward(attend, nodes);
    w.clock.mark(Phase::attention_forward);
    forward(l.wo, l.o, nodes, Residual{l.x1, x, i == 0 ? rows.pair_of : rows.self});
    w.clock.mark(Phase::forward_matrices);
    rms_forward(l.b, l.rb, l.x1, pc, nodes, C);
    w.clock.mark(Phase::embedding_norms);
    mlp_forward(l.mlp, l.b, l.x1, l.x2, rows.self, nodes);
    w.clock.mark(Phase::mlp_forward);
    x = l.x2;
  }
  forward(s.lm_head, x, nodes, Store{s.logits});
  w.clock.mark(Phase::forward_matrices);
}

template <class Clock>
void forward(Worker<Clock>& w) {
  const Span nodes = w.share.of(w.rows.nodes);
  logits(w, w.share.of(w.rows.pairs), nodes);
  cross_entropy(w.s.logits, w.s.lse, w.s.nll, w.rows, nodes, w.s.config.vocab_size);
  w.clock.mark(Phase::softmax_loss);
}

// Forward reversed: first what is by row, then, when all rows are there, what sums over them. Every
// weight is used for its input gradient before Adam updates it.
template <class Clock>
void backward(Worker<Clock>& w, const Adam* adam, bool calm) {
  State& s = w.s;
  const Rows& rows = w.rows;
  const int C = s.config.n_embd, pc = panels_of(C), last = s.config.n_layer - 1, n = rows.nodes;
  const Span nodes = w.share.of(n), pairs = w.share.of(rows.pairs);
  input_gradient(s.lm_head, s.logits, nodes, Store{s.layers[last].dx2});
  w.clock.mark(Phase::input_gradients);
  for (int i = last; i >= 0; --i) {
    Layer& l = s.layers[i];
    const int keys = key_rows(rows, i);
    const Attention attend = attention(s, l, i, rows);
    mlp_backward(l.mlp, l.b, l.dx2, s.scratch, nodes);
    w.clock.mark(Phase::mlp_backward);
    rms_backward(l.dx1, s.scratch, l.b, l.rb, pc, nodes, C, l.dx2);
    w.clock.mark(Phase::norms_backward);
    input_gradient(l.wo, l.dx1, nodes, Store{l.dout});
    w.clock.mark(Phase::input_gradients);
    if (!s.tiled) scores_backward(attend, nodes);
    w.clock.mark(Phase::attention_backward);
    w.wait();
    if (!V::compact && s.tiled) tiled_attention_backward(attend, long_rows(s, l, w.share), w.share);
    else attention_backward(attend, keys, w.share);
    w.clock.mark(Phase::attention_backward);
    mlp_weights(l.mlp, l.b, l.dx2, n, adam, calm, w.share);
    w.clock.mark(Phase::mlp_weights_adam);
    if (i == last) weight_gradient(s.logits, l.x2, n, s.lm_head, adam, w.share);
    weight_gradient(l.dx1, l.o, n, l.wo, adam, w.share);
    w.clock.mark(Phase::weight_gradients_adam);
    w.wait();
    input_gradient(l.qkv, l.dqkv, w.share.of(keys), Store{s.scratch});
    w.clock.mark(Phase::input_gradients);
    const Panels dx = i == 0 ? s.dx0 : s.layers[i - 1].dx2;
    if (i == 0) sum_by_pair(s.dx0, l.dx1, rows, pc, pairs);
    rms_backward(dx, s.scratch, l.a, l.ra, pc, w.share.of(keys), C, i == 0 ? s.dx0 : l.dx1);
    w.clock.mark(Phase::norms_backward);
    w.wait();
    weight_gradient(l.dqkv, l.a, keys, l.qkv, adam, w.share);
    w.clock.mark(Phase::weight_gradients_adam);
  }
  rms_backward(s.dx0, s.dx0, s.x0, s.r0, pc, pairs, C, Panels{});
  w.wait();
  if (w.share.mine()) table_backward(s.wte, rows.pair_token, s.dx0, rows, pc, adam);
  if (w.share.mine()) table_backward(s.wpe, rows.pair_position, s.dx0, rows, pc, adam);
  w.clock.mark(Phase::embedding_adam);
}

// One thread's part of a call; all of them run it. The loss, of rank 0.
template <class Clock>
double run(State& s, const Call& call, const Adam* adam, Clock clock) {
  const FlushDenormals flush;
  Worker<Clock> w{s, s.builder.rows(), call, {call.rank, call.size}, clock};
  if (call.rank == 0) s.builder.build(*call.batch);
  w.clock.mark(Phase::batch);
  w.wait();
  forward(w);
  if (call.backward) backward(w, adam, adam != nullptr && calm(s.before, *call.adam));
  w.wait();
  if (call.rank == 0 && adam != nullptr) s.before = *call.adam;
  return call.rank == 0 ? total_loss(s.nll, w.rows) : 0.0;
}

// Documents drawn token by token, all at once and level by level: prefixes that several of them
// share are computed once. tokens (count, T), lengths (count); count <= the batch size of the state.
void generate(State& s, const Draw& draw) {
  const FlushDenormals flush;
  const int T = s.config.block_size, bos = s.config.vocab_size - 1;
  const Call alone{};
  Worker<Silent> w{s, s.builder.rows(), alone, {0, 1}, {}};
  s.builder.start();
  int active = draw.count;
  for (int i = 0; i < draw.count; ++i) {
    draw.active[i] = i;
    draw.token_of[i] = bos;
    draw.node_of[i] = 0;
    draw.lengths[i] = draw.prompt_length;
  }
  for (int t = 0; t < T && active > 0; ++t) {
    const Span before{w.rows.pairs, w.rows.nodes};
    s.builder.grow(draw.active, active, draw.token_of, draw.node_of);
    const Span nodes{before.last, w.rows.nodes};
    logits(w, {before.first, w.rows.pairs}, nodes);
    if (t < draw.prompt_length) {
      for (int i = 0; i < draw.count; ++i)
        draw.tokens[int64_t{i} * T + t] = draw.token_of[i] = draw.prompt[t];
      continue;
    }
    if (draw.top_k > 0) keep_top(s.logits, nodes, s.config.vocab_size, draw.top_k);
    cumulate(s.logits, nodes, s.config.vocab_size, static_cast<float>(1.0 / draw.temperature));
    int still_active = 0;
    for (int j = 0; j < active; ++j) {
      const int i = draw.active[j];
      const float* row = s.logits.at(0, int64_t{draw.node_of[i]} * kPanel);
      const int token = pick(row, s.logits.stride, s.config.vocab_size,
                             uniform(draw.seed, static_cast<uint64_t>(draw.first + i),
                                     static_cast<uint64_t>(t)));
      draw.token_of[i] = token;
      draw.tokens[int64_t{i} * T + t] = token;
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

// Zeros, padding included: what is not a number would spread over the padding, and stay there.
void clear_slot(State& s, Slot slot) {
  const auto clear_array = [](float* array, int64_t size) {
    for (int64_t i = 0; i < size; i += kPanel) Row::set(0.0f).store(array + i);
  };
  const auto matrix = [&](const Matrix& m) {
    clear_array(array_of(m, slot), m.size());
    if (slot == Slot::parameter && m.q != nullptr) clear_array(m.q, m.size());
  };
  clear_array(array_of(s.wte, slot), s.wte.size());
  clear_array(array_of(s.wpe, slot), s.wpe.size());
  matrix(s.lm_head);
  for (int i = 0; i < s.config.n_layer; ++i) {
    matrix(s.layers[i].qkv);
    matrix(s.layers[i].wo);
    matrix(s.layers[i].mlp.fc1);
    matrix(s.layers[i].mlp.fc2);
  }
}

// f(natural index, pointer into the slot, pointer to the transposed copy or null) for every element.
template <class F>
void each_element(State& s, Slot slot, F f) {
  const Layout at(s.config);
  const int C = s.config.n_embd;
  const auto table = [&](int64_t natural, const Table& t) {
    for (int r = 0; r < t.rows; ++r)
      for (int i = 0; i < C; ++i)
        f(natural + int64_t{r} * C + i, array_of(t, slot) + t.at(r, i), nullptr);
  };
  const auto identity = [](int o) { return o; };
  const auto matrix = [&](int64_t natural, const Matrix& m, int outs, int ins, auto out, auto in) {
    for (int o = 0; o < outs; ++o)
      for (int i = 0; i < ins; ++i)
        f(natural + int64_t{o} * ins + i, array_of(m, slot) + m.at(out(o), in(i)),
          m.q == nullptr ? nullptr : m.q + m.transposed_at(out(o), in(i)));
  };
  table(at.wte(), s.wte);
  table(at.wpe(), s.wpe);
  matrix(at.lm_head(), s.lm_head, s.config.vocab_size, C, identity, identity);
  for (int i = 0; i < s.config.n_layer; ++i) {
    Layer& l = s.layers[i];
    const int64_t third[] = {at.attn_wq(i), at.attn_wk(i), at.attn_wv(i)};
    const auto head = [&](int o) { return s.heads.at(o); };
    for (int t = 0; t < 3; ++t)
      matrix(third[t], l.qkv, C, C, [&](int o) { return t * s.heads.width() + head(o); },
             identity);
    matrix(at.attn_wo(i), l.wo, C, C, identity, head);
    matrix(at.mlp_fc1(i), l.mlp.fc1, 4 * C, C, identity, identity);
    matrix(at.mlp_fc2(i), l.mlp.fc2, C, 4 * C, identity, identity);
  }
}

// Moments are kept divided by 1 - beta.
double scale_of(const State& s, Slot slot) {
  return slot == Slot::first_moment    ? 1.0 - s.beta1
         : slot == Slot::second_moment ? 1.0 - s.beta2
                                       : 1.0;
}

// Moments of units that stand still, brought up to date.
void wake(State& s) {
  const FlushDenormals flush;
  for (int i = 0; i < s.config.n_layer; ++i)
    catch_up_all(s.layers[i].mlp, static_cast<float>(s.beta1), static_cast<float>(s.beta2));
}

State& state_of(void* state) { return *static_cast<State*>(state); }

constexpr Kernels table() {
  return {
      V::lanes, true,
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
        wake(s);
        clear_slot(s, slot);
        each_element(s, slot, [&](int64_t i, float* value, float* transposed) {
          *value = static_cast<float>(natural[i] / scale);
          if (slot == Slot::parameter && transposed != nullptr) *transposed = *value;
        });
        for (int i = 0; i < s.config.n_layer; ++i) s.layers[i].mlp.not_finite = !finite(s.layers[i].mlp);
      },
      [](const void* state, Slot slot, double* natural) {
        State& s = state_of(const_cast<void*>(state));
        const double scale = scale_of(s, slot);
        wake(s);
        each_element(s, slot, [&](int64_t i, float* value, float*) { natural[i] = *value * scale; });
      },
      [](void* state, const Call& call) {
        const Adam adam(call.adam != nullptr ? *call.adam : AdamStep{});
        const Adam* update = call.adam != nullptr ? &adam : nullptr;
        if (!V::compact && call.ticks != nullptr && call.rank == 0)
          return run(state_of(state), call, update, Stopwatch(call.ticks));
        return run(state_of(state), call, update, Silent());
      },
      [](void* state, const Draw& draw) { generate(state_of(state), draw); },
      [](const void* state) {
        State& s = state_of(const_cast<void*>(state));
        Activity mean;
        const int rows = s.builder.rows().nodes;
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
