// The hidden units of the MLP: what stands where, the hidden values of few rows, Adam, and units at
// rest. Derivation: docs/derivations.md.
//
// Behind the ReLU most hidden values are exact zeros, and five of the six products of forward and
// backward multiply by them. Here the two weight rows of a unit stand once, as (units, C), and
// hidden values as (row panels, units, 16 rows); the five products are over active pairs (row,
// unit): mlp.h. Every sum runs over its units, or its rows, in ascending order, and a zero changes
// no sum, so that skipping changes no bit.
#pragma once
#include <initializer_list>

#include "matrix.h"

namespace microgpt {
namespace {

// How the rows of a panel are summed: with few active units, four at a time over lists of them;
// with more, over 64 units at a time of all rows, whose weights then stay in the cache; with most,
// by tiles. `every`: by tiles only because all units are to count as active; dh, the order of whose
// sums depends on the way, is as by lists. (In compact code it always is.)
enum class Way : int32_t { lists, parts, tiles, every };
// Of so many pairs one at most is listed, where weights do not fit the first cache.
constexpr int kListed = 10;

struct Mlp {
  Matrix fc1, fc2;
  int units;     // 4C
  bool few;      // rows, in every batch
  bool narrow;   // few rows of one panel or two, whose pairs are not listed: narrow.h; not compact
  bool by_unit;  // else C is one panel and rows are many, where lists cost more than zeros; h, dh
                 // are (units, rows)
  Panels h, dh;  // (row panels, units, 16 rows): relu(m fc1) and its gradient

  // By unit. A panel of rows has lists of the units active in some of each four of its rows,
  // ascending.
  int mask_units;    // units rounded up to 64
  Panels mt;         // (row panels, C, 16 rows): m transposed, then dx2; of few rows, in pairs
  Strips dx2_rows;   // (rows, C): dx2, row by row
  uint16_t* active;  // (row panels, mask_units) bit r: the unit is active in row r of the panel
  uint64_t* bits;    // (rows, mask_units / 64) the same by row
  int32_t* list;     // (row panels, list_size) 16 times the unit; if narrow, one for the panel
  int32_t* begin;    // (rows) where the list of four rows begins, with the first of them
  int32_t* count;    // (rows) and its length; that of a panel with its first row
  Way* way;          // (row panels)
  int32_t* tiles;    // (panels of units) the same for their weights
  int32_t* still;    // (units) 0: moves; else 1 + the steps whose decay is due, see catch_up
  bool may_wait;     // rows of fc2 may, for their steps without gradient: see settle
  int32_t* due;      // (units) how many such steps they have still to take
  const Recent* recent;
  bool skip_zeros;  // else every unit counts as active
  int not_finite;   // set when a weight is infinite or NaN: its product with zero is not zero

  PYMICROGPT_INLINE bool all() const { return !skip_zeros || not_finite != 0; }
  PYMICROGPT_INLINE void note(bool broken) {
    if (broken) __atomic_store_n(&not_finite, 1, __ATOMIC_RELAXED);
  }
  PYMICROGPT_INLINE bool fits() const { return Vec::compact || panels_of(fc1.ins) <= 2; }
  PYMICROGPT_INLINE int64_t list_size() const {
    return kPanel * mask_units / (fits() ? 4 : kListed) + 16;  // see list_bits
  }
  PYMICROGPT_INLINE int32_t* list_of(int panel) const { return list + panel * list_size(); }
  PYMICROGPT_INLINE int parts() const { return mask_units / 64; }
  // Bit i: unit 64 part + i is active in the row.
  PYMICROGPT_INLINE uint64_t units_of(int row, int part) const {
    return bits[int64_t{row} * parts() + part];
  }
  PYMICROGPT_INLINE Strips weights(const Matrix& w) const { return {w.p, w.strip()}; }
  // Bit i: the unit is active in row `first` + i of `rows`; `first` is a multiple of 64.
  PYMICROGPT_INLINE uint64_t rows_of(int unit, int first, int rows) const {
    uint64_t word = 0;
    for (int p = first / kPanel, i = 0; i < 64 && first + i < rows; ++p, i += kPanel)
      word |= uint64_t{active[int64_t{p} * mask_units + unit]} << i;
    return word;
  }
};

// Relu with rows in the lanes, for which the unit is a row: keeps which of the sixteen are not
// zero, of the panel `last` at most those in `kept`.
struct Hidden {
  static constexpr bool as_is = false;
  Panels h;
  uint16_t* active;
  int mask_units;
  unsigned kept;
  int last;
  PYMICROGPT_INLINE Hidden(const Mlp& mlp, int first_panel, int end)
      : h{mlp.h.at(first_panel, 0), mlp.h.stride},
        active(mlp.active + int64_t{first_panel} * mlp.mask_units), mask_units(mlp.mask_units),
        kept((2u << (end - 1) % kPanel) - 1), last((end - 1) / kPanel - first_panel) {}
  PYMICROGPT_INLINE Tile tile(int unit, int panel) const { return h.tile(unit, panel); }
  // Rows: Vec16, or VecUpTo<8> where there are no more.
  template <class Rows>
  PYMICROGPT_INLINE void operator()(int unit, int panel, float* to, const Rows& sum) const {
    const Rows zero = Rows::set(0.0f), value = max(zero, sum);  // in this order NaN stays NaN
    value.store(to);
    const unsigned bits = unequal(value, zero) & (panel == last ? kept : 0xffff);
    active[int64_t{panel} * mask_units + unit] = static_cast<uint16_t>(bits);
  }
};

// ---- hidden values of few rows: the sums over even and over odd k side by side ----
// So one load, of two weights, feeds twice as many sums. N, 8 or 16, is how many rows of a panel.

template <int N>
using PairSums = Floats<Vec, 2 * N>;

// mt = `rows` rows of x, from the first of a panel on: of two features the values of every row side
// by side, as interleave_low and interleave_high of vectors of so many rows would have them.
template <int lanes>
void pair_rows(const Mlp& mlp, Panels x, int row_panel, int rows) {
  constexpr int fours = lanes / 4;
  for (int k = 0; k < panels_of(mlp.fc1.ins) * kPanel; k += Vec::lanes) {
    const float* from = x.at(k / kPanel, row_panel * kPanel * kPanel) + k % kPanel;
    float* to = mlp.mt.at(row_panel, k * kPanel);
    for (int first = 0; first < rows / 2; first += 4, to += 4 * 4) {
      // Two rows at a time: for every `lanes`, the first two of each four and then the last two.
      Vec low[4];
      Vec high[4];
  PYMICROGPT_UNROLL for (int j = 0; j < 4; ++j) {
        const int i = first + j, pair = i % (lanes / 2);
        const int row = i / (lanes / 2) * lanes + pair % fours * 4 + pair / fours * 2;
        const Vec a = Vec::load(from + row * kPanel), b = Vec::load(from + (row + 1) * kPanel);
        low[j] = pairs_low(a, b);
        high[j] = pairs_high(a, b);
      }
      store_quads(to, 4 * kPanel, low);
      store_quads(to + 2 * kPanel, 4 * kPanel, high);
    }
  }
}

// Even and odd k together.
template <int N>
PYMICROGPT_INLINE VecUpTo<N> sums_of_pairs(const Floats<Vec, 2 * N>& sum) {
  VecUpTo<N> rows;
  if constexpr (N < Vec::lanes) {
    rows.v[0] = pair_sums(sum.v[0]);
  } else {
    PYMICROGPT_UNROLL for (int u = 0; u < rows.vectors; ++u)
      rows.v[u] = pair_sums(sum.v[2 * u], sum.v[2 * u + 1]);
  }
  return rows;
}

// The sums of N rows, as pair_rows left them, with the weights of U units, which are at of(u):
// then(u, sums). fetch(i) asks for what is wanted after the i-th of k; with OnePanel of k there is
// nothing to ask for.
template <int N, int U, bool OnePanel, class Of, class Fetch, class Then>
PYMICROGPT_INLINE void pair_tile(const float* x, int k, Of of, Fetch fetch, Then then) {
  using Sums = PairSums<N>;
  Sums sum[U];
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) sum[u] = Sums::set(0.0f);
  const auto add = [&](int i) PYMICROGPT_INLINED {
    const Sums values = Sums::load(x + i * kPanel);
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
      sum[u] = fma(Sums::load_pair(of(u) + i), values, sum[u]);
  };
  if constexpr (OnePanel) {
    PYMICROGPT_UNROLL for (int i = 0; i < kPanel; i += 2) add(i);
  } else {
    for (int i = 0; i < k; i += 2) {
      fetch(i);
      add(i);
    }
  }
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) then(u, sums_of_pairs<N>(sum[u]));
}
// More than eight would take more addresses than there are registers.
template <int N>
constexpr int units_of_tile() {
  constexpr int fit = power_of_two_below(Vec::accumulators / PairSums<N>::vectors);
  return fit < 8 ? fit : 8;
}

// Of the rows of a panel, up to row `end`. P panels of features, or 0: any number.
template <int N, int P>
void hidden_tiles(const Mlp& shared, Panels m, int row_panel, int end) {
  const Mlp mlp = shared;  // a copy, which no store can alias
  const Hidden hidden(mlp, 0, end);
  constexpr int U = units_of_tile<N>();
  pair_rows<VecUpTo<N>::Vector::lanes>(mlp, m, row_panel, N);
  const Strips w = mlp.weights(mlp.fc1);
  const auto tile = [&](int unit, auto units) PYMICROGPT_INLINED {
    const float* weights = w.at(0, unit);
    pair_tile<N, units.value, P == 1>(
        mlp.mt.at(row_panel, 0), mlp.fc1.ins,
        [&](int u) PYMICROGPT_INLINED { return weights + u * w.stride; },
        [&](int i) PYMICROGPT_INLINED {
          __builtin_prefetch(weights + U * w.stride + i * U);  // of the next tile
        },
        [&](int u, const auto& sums) PYMICROGPT_INLINED {
          end_sum(hidden, unit + u, row_panel, sums);
        });
  };
  int unit = 0;
  for (; unit + U <= mlp.units; unit += U) tile(unit, Constant<U>());
  if constexpr (U > 4)
    if (unit < mlp.units) tile(unit, Constant<4>());  // units are a multiple of four
}

// ---- steps of Adam ----

// Adam, a vector of weights after the other, and whether all of them are still finite. Those of fc2
// are the half that takes the other root.
struct Steps {
  Adam adam;
  Vec nothing = Vec::set(0.0f);  // or NaN

  PYMICROGPT_INLINE explicit Steps(const Adam& a) : adam(a) {}
  PYMICROGPT_INLINE void operator()(const Matrix& w, int64_t at, const Vec& g, bool other) {
    const Vec after = adam.update(Vec::load(w.p + at), g, w.m + at, w.v + at, other);
    after.store(w.p + at);
    nothing = nothing + (after - after);
  }
  PYMICROGPT_INLINE bool broken() const { return unequal(nothing, Vec::set(0.0f)) != 0; }
};

// On `count` weights from `at` on, with gradients g. Whether one of them is not finite.
bool step_weights(const Matrix& shared, int64_t at, const float* g, int64_t count,
                  const Adam& adam, bool other) {
  const Matrix w = shared;  // a copy, which no store can alias
  Steps step(adam);
  for (int64_t i = 0; i < count; i += Vec::lanes) step(w, at + i, Vec::load(g + i), other);
  return step.broken();
}

// ---- units at rest ----
// A unit that is active nowhere has no gradient; its moments decay and its weights drift on until
// the steps of Adam are too small to change a bit of them. Where such steps get smaller from one to
// the next (calm, in matrix.h), the unit then stands still: its moments decay when somebody needs
// them.

// `steps` steps of U vectors of moments without gradient.
template <int U>
PYMICROGPT_INLINE void decay(float* m, float* v, int steps, Vec beta1, Vec beta2) {
  Vec m1[U], v1[U];
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
    m1[u] = Vec::load(m + u * Vec::lanes);
    v1[u] = Vec::load(v + u * Vec::lanes);
  }
  for (; steps > 0; --steps)
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
      m1[u] = fma(beta1, m1[u], Vec::set(0.0f));
      v1[u] = fma(beta2, v1[u], Vec::set(0.0f));
    }
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
    m1[u].store(m + u * Vec::lanes);
    v1[u].store(v + u * Vec::lanes);
  }
}

// The moments of a unit, as the steps that it has stood still for would have left them.
PYMICROGPT_NOINLINE void wake(const Mlp& mlp, int unit, Vec beta1, Vec beta2) {
  constexpr int U = Vec::compact ? 1 : 2;  // at a time
  const int64_t width = mlp.fc1.strip(), end = (unit + 1) * width;
  for (const Matrix* w : {&mlp.fc1, &mlp.fc2}) {
    int64_t i = unit * width;
    for (; i + U * Vec::lanes <= end; i += U * Vec::lanes)
      decay<U>(w->m + i, w->v + i, mlp.still[unit] - 1, beta1, beta2);
    if (U > 1 && i < end) decay<1>(w->m + i, w->v + i, mlp.still[unit] - 1, beta1, beta2);
  }
  mlp.still[unit] = 0;
}

// Where weights and moments are more than the second cache holds, a unit that is active nowhere
// takes a step in fc1 alone, by which it may become active. Its row of fc2, which meets zeros only
// until then, takes its steps several at once, in registers.
PYMICROGPT_NOINLINE void take_due_steps(const Mlp& mlp, int unit) {
  const Matrix w = mlp.fc2;  // copies, which no store can alias
  const Recent recent = *mlp.recent;
  const int due = mlp.due[unit];
  const int64_t width = w.strip();
  for (int64_t at = unit * width; at < (unit + 1) * width; at += Vec::lanes) {
    Vec p = Vec::load(w.p + at), m = Vec::load(w.m + at), v = Vec::load(w.v + at);
    for (int i = due; i > 0; --i)
      p = recent.back(i).update(p, Vec::set(0.0f), m, v, true);
    p.store(w.p + at);
    m.store(w.m + at);
    v.store(w.v + at);
  }
  mlp.due[unit] = 0;
}
PYMICROGPT_INLINE void settle(const Mlp& mlp, int unit) {
  if (!Vec::compact && mlp.due[unit] > 0) take_due_steps(mlp, unit);
}

PYMICROGPT_INLINE void catch_up(const Mlp& mlp, int unit, Vec beta1, Vec beta2) {
  if (mlp.still[unit] > 0) wake(mlp, unit, beta1, beta2);
  settle(mlp, unit);
}

// For one call. Several threads would have to find out together which rows to settle.
void let_wait(Mlp& mlp, bool alone) {
  if (Vec::compact || !mlp.by_unit) return;
  for (int unit = 0; !alone && unit < mlp.units; ++unit) settle(mlp, unit);
  mlp.may_wait = alone && panels_of(mlp.fc1.ins) >= 8;
}

void catch_up_all(const Mlp& mlp, float beta1, float beta2) {
  if (!mlp.by_unit) return;
  for (int unit = 0; unit < mlp.units; ++unit)
    catch_up(mlp, unit, Vec::set(beta1), Vec::set(beta2));
}

// Units within one 64, 16 times each: those that are active in some row, or all, and the others.
struct Split {
  int32_t active[64 + kPanel], others[64 + kPanel];  // see list_bits
  int actives = 0, rest = 0;

  Split(const Mlp& mlp, Span units, int rows, bool every = false) {
    if constexpr (Vec::compact) {  // unit by unit, in less code
      for (int u = units.first; u < units.last; ++u) {
        unsigned here = every;
        for (int p = 0; p * kPanel < rows; ++p) here |= mlp.active[p * mlp.mask_units + u];
        (here != 0 ? active[actives++] : others[rest++]) = u * kPanel;
      }
    } else {
      const int first = units.first / 64 * 64;
      uint16_t any[64] = {};
      for (int p = 0; p * kPanel < rows; ++p)
        for (int i = 0; i < 64; ++i) any[i] |= mlp.active[int64_t{p} * mlp.mask_units + first + i];
      const uint64_t all = (~uint64_t{0} >> (64 - (units.last - units.first)))
                           << (units.first - first);
      const uint64_t here = every ? all : set_bits(any, 0xffff) & all;
      actives = static_cast<int>(list_bits(active, here, first * kPanel) - active);
      rest = static_cast<int>(list_bits(others, here ^ all, first * kPanel) - others);
    }
  }
};

// A step of `count` units of a list that are active nowhere; P panels, or 0: any number.
template <int P>
void rest_of(const Mlp& mlp, const int32_t* list, int count, const Adam& shared, bool calm) {
  const Adam adam = shared;  // copies, which no store can alias
  const Matrix fc1 = mlp.fc1, fc2 = mlp.fc2;
  const int64_t width = P > 0 ? P * kPanel : fc1.strip();
  const auto moves = [&](const Matrix& w, int64_t i, bool other) PYMICROGPT_INLINED {
    const Vec before = Vec::load(w.p + i);
    const Vec after = adam.update(before, Vec::set(0.0f), w.m + i, w.v + i, other);
    after.store(w.p + i);
    return unequal(before, after);
  };
  for (int i = 0; i < count; ++i) {
    const int unit = list[i] / kPanel;
    if (mlp.still[unit] > 0 && calm) {
      ++mlp.still[unit];
      continue;
    }
    const bool waits = !Vec::compact && mlp.may_wait && !mlp.recent->is_turn_of(unit);
    if (waits && mlp.still[unit] == 0) {
      for (int64_t at = unit * width; at < (unit + 1) * width; at += Vec::lanes)
        moves(fc1, at, false);
      ++mlp.due[unit];
      continue;
    }
    catch_up(mlp, unit, adam.beta1, adam.beta2);
    unsigned moved = 0;
    for (int64_t at = unit * width; at < (unit + 1) * width; at += Vec::lanes)
      moved |= moves(fc1, at, false) | moves(fc2, at, true);
    mlp.still[unit] = moved == 0;
  }
}
// calm: such steps get smaller.
void rest(const Mlp& mlp, const int32_t* list, int count, const Adam& adam, bool calm) {
  if constexpr (Vec::compact)
    rest_of<0>(mlp, list, count, adam, calm);
  else
    with_one_of<2, 4, 8>(panels_of(mlp.fc1.ins), [&](auto P) {
      rest_of<P.value>(mlp, list, count, adam, calm);
    });
}

// Before rows of fc2 are read: those of the units that are active in some row.
void settle_active(const Mlp& mlp, int rows) {
  if (Vec::compact || !mlp.may_wait) return;
  for (int first = 0; first < mlp.units; first += 64) {
    const Split split(mlp, {first, first + 64 < mlp.units ? first + 64 : mlp.units}, rows);
    for (int i = 0; i < split.actives; ++i) settle(mlp, split.active[i] / kPanel);
  }
}

// The hidden values of a batch of `rows` that are not zero, and the units that are active or at
// rest.
Activity activity_of(const Mlp& mlp, int rows) {
  int64_t values = 0;
  int units = 0, resting = 0;
  for (int u = 0; u < mlp.units; ++u) {
    int active = 0;
    for (int n = 0; n < rows; ++n)
      active += *(mlp.by_unit ? mlp.h.at(n / kPanel, int64_t{u} * kPanel) + n % kPanel
                            : mlp.h.at(u / kPanel, int64_t{n} * kPanel) + u % kPanel) != 0.0f;
    values += active;
    units += active > 0;
    resting += mlp.by_unit && mlp.still[u] > 0;
  }
  const double all = mlp.units;
  return {static_cast<double>(values) / rows / all, units / all, resting / all};
}

bool finite(const Mlp& mlp) {
  unsigned broken = 0;
  for (const Matrix* w : {&mlp.fc1, &mlp.fc2})
    for (int64_t i = 0; i < w->size(); i += Vec::lanes) {
      const Vec x = Vec::load(w->p + i);
      broken |= unequal(x - x, Vec::set(0.0f));
    }
  return broken == 0;
}

}  // namespace
}  // namespace microgpt
