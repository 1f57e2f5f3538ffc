// The MLP, x2 = x1 + fc2 relu(fc1 b), by hidden unit: the only place that knows of zeros.
//
// Behind the ReLU most hidden values are exact zeros, and five of the six products of forward and
// backward multiply by them. Here the two weight rows of a unit stand once, as (units, C), hidden values
// as (row panels, units, 16 rows), and those five products are over active pairs (row, unit) alone:
// row by row for x2 and db, unit by unit for the weights. Every sum runs over its units, or its rows, in
// ascending order, and a zero changes no sum, so that skipping changes no bit; where much is active the
// same sums are done in register tiles. Derivation: docs/derivations.md.
#pragma once
#include "matrix.h"

namespace microgpt {
namespace {

struct Mlp {
  Matrix fc1, fc2;
  int units;     // 4C
  bool few;      // rows
  bool by_unit;  // else C is one panel, where lists cost more than zeros, and h is (units, rows)
  Panels h, dh;  // relu(b fc1) and its gradient

  // By unit. A panel of rows has a list of the active units of each of its rows, in ascending order.
  int mask_units;           // units rounded up to 64
  Panels bt;                // (row panels, C, 16 rows): b transposed
  Strips b_rows, dx2_rows;  // (rows, C): b and dx2, row by row
  uint16_t* active;  // (row panels, mask_units) bit r: the unit is active in row r of the panel
  uint64_t* bits;    // (rows, mask_units / 64) the same by row
  int32_t* list;     // (row panels, kPanel * mask_units + 4) 16 times the unit
  int32_t* begin;    // (rows) where the list of a row begins
  int32_t* count;    // (rows) and its length
  int32_t* dense;    // (row panels) not 0: so many that tiles are faster, and there is no list
  int32_t* still;    // (units) 0: moves; else 1 + the steps whose decay is due, see catch_up
  bool skip_zeros;   // else every unit counts as active
  int not_finite;    // set when a weight is infinite or NaN: its product with zero is not zero

  PYMICROGPT_INLINE bool all() const { return !skip_zeros || not_finite != 0; }
  PYMICROGPT_INLINE int32_t* list_of(int panel) const {
    return list + panel * (int64_t{kPanel} * mask_units + 4);
  }
  PYMICROGPT_INLINE Strips weights(const Matrix& w) const {
    return {w.p, int64_t{panels_of(w.lanes())} * kPanel};
  }
  // Bit i: the unit is active in row `first` + i of `rows`; `first` is a multiple of 64.
  PYMICROGPT_INLINE uint64_t rows_of(int unit, int first, int rows) const {
    uint64_t word = 0;
    for (int p = first / kPanel, i = 0; i < 64 && first + i < rows; ++p, i += kPanel)
      word |= uint64_t{active[int64_t{p} * mask_units + unit]} << i;
    return word;
  }
};

// Whether so many of all pairs are active that tiles are faster than lists: measured, except that a
// list of sums in `panels` panels waits four cycles for each multiply-add, of which a tile starts two
// in every cycle. Many rows do not stay in the cache between their pairs.
PYMICROGPT_INLINE bool worth_tiles(int pairs, int all, int panels, bool many_rows) {
  const int vectors = panels * kVectors;
  const float share = many_rows ? 0.25f : vectors < 4 ? 0.125f * static_cast<float>(vectors) : 0.5f;
  return static_cast<float>(pairs) > share * static_cast<float>(all);
}

// Rows of b and dx2 that stay in the cache while all units pass by.
PYMICROGPT_INLINE int block_rows(int panels) { return panels > 4 ? 64 : 512 / panels / 64 * 64; }

// Relu with rows in the lanes, for which the unit is a row: keeps which of the sixteen are not zero.
struct Hidden {
  Panels h;
  uint16_t* active;
  int mask_units;
  bool all;
  PYMICROGPT_INLINE void operator()(int unit, int panel, const Row& sum) const {
    const Row zero = Row::set(0.0f), value = max(zero, sum);  // in this order NaN stays NaN
    value.store(h.at(panel, int64_t{unit} * kPanel));
    active[int64_t{panel} * mask_units + unit] =
        static_cast<uint16_t>(all ? 0xffffu : unequal(value, zero));
  }
};

// Dot products of four rows with U rows of weights: f(u, x[n + i] . w[unit + u] in element i of each
// quad). The order of their sums is that of pair_gradients.
template <int U, class F>
PYMICROGPT_INLINE void dots4(Panels x, int n, const Strips& w, int unit, F f) {
  V sum[U][4];
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) sum[u][i] = V::set(0.0f);
  const float* weight = w.at(0, unit);
  for (int64_t k = 0; k < w.width; k += kPanel, weight += kPanel) {
    const float* row = x.at(static_cast<int>(k / kPanel), int64_t{n} * kPanel);
    PYMICROGPT_UNROLL for (int v = 0; v < kVectors; ++v) {
      V value[4];
      PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i)
        value[i] = V::load(row + i * kPanel + v * V::lanes);
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
        const V of_unit = V::load(weight + u * w.width + v * V::lanes);
        PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) sum[u][i] = fma(value[i], of_unit, sum[u][i]);
      }
    }
  }
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
    f(u, across_quads(reduce4(sum[u][0], sum[u][1], sum[u][2], sum[u][3])));
}

// f(unit, U) for the units in groups of as many as dots4 takes.
template <class F>
PYMICROGPT_INLINE void groups_of_units(int units, F f) {
  constexpr int most = V::accumulators / 4;
  split_evenly(units, most, [&](int unit, int some) {
    with_up_to<most>(some, [&](auto U) { f(unit, U); });
  });
}

// The hidden values of the rows of a panel, where there are few.
void few_hidden(const Mlp& m, Panels b, int row_panel, int rows) {
  groups_of_units(m.units, [&](int unit, auto U) {
    unsigned bits[U.value] = {};
    for (int r = 0; r < rows; r += 4)
      dots4<U.value>(b, row_panel * kPanel + r, m.weights(m.fc1), unit, [&](int u, const V& dots) {
        const V zero = V::set(0.0f), value = max(zero, dots);
        value.store_quad(m.h.at(row_panel, int64_t{unit + u} * kPanel) + r);
        bits[u] |= (unequal(value, zero) & 15) << r;
      });
    for (int u = 0; u < U.value; ++u)
      m.active[int64_t{row_panel} * m.mask_units + unit + u] =
          static_cast<uint16_t>(m.all() ? 0xffffu : bits[u]);
  });
}

// bt = b transposed, for whole panels of rows.
void transpose_rows(Panels bt, Panels b, int panels, int first, int last) {
  for (int n = first * kPanel; n < last * kPanel; n += 4)
    for (int p = 0; p < panels; ++p)
      PYMICROGPT_UNROLL for (int u = 0; u < kVectors; ++u) {
        const float* from = b.at(p, int64_t{n} * kPanel) + u * V::lanes;
        store_transposed(bt.at(n / kPanel, (p * kPanel + u * V::lanes) * kPanel) + n % kPanel,
                         V::load(from), V::load(from + kPanel), V::load(from + 2 * kPanel),
                         V::load(from + 3 * kPanel));
      }
}

void copy_rows(Strips to, Panels from, int panels, int first, int last) {
  for (int n = first; n < last; ++n)
    for (int p = 0; p < panels; ++p)
      Row::load(from.at(p, int64_t{n} * kPanel)).store(to.at(p, n));
}

// Sixteen words of four 16 x 16 bit matrices, transposed: bit c of row r <-> bit r of row c.
PYMICROGPT_INLINE void transpose_bits(uint64_t (&word)[kPanel]) {
  constexpr uint64_t low[4] = {0x5555555555555555, 0x3333333333333333, 0x0f0f0f0f0f0f0f0f,
                               0x00ff00ff00ff00ff};
  PYMICROGPT_UNROLL for (int j = 0; j < 4; ++j) {
    const int step = 1 << j;
    for (int i = 0; i < kPanel; i += 2 * step)
      for (int k = i; k < i + step; ++k) {
        const uint64_t swap = ((word[k] >> step) ^ word[k + step]) & low[j];
        word[k + step] ^= swap;
        word[k] ^= swap << step;
      }
  }
}

// The lists of the rows of a panel, the first `rows` of it.
void find_active(const Mlp& m, int panel, int rows) {
  const int groups = m.mask_units / 64;
  uint64_t* bits = m.bits + int64_t{panel} * kPanel * groups;
  for (int group = 0; group < groups; ++group) {
    const uint16_t* active = m.active + int64_t{panel} * m.mask_units + group * 64;
    uint64_t word[kPanel];
    for (int i = 0; i < kPanel; ++i)
      word[i] = active[i] | uint64_t{active[i + 16]} << 16 | uint64_t{active[i + 32]} << 32 |
                uint64_t{active[i + 48]} << 48;
    transpose_bits(word);
    for (int r = 0; r < kPanel; ++r) bits[r * groups + group] = word[r];
  }
  int32_t *list = m.list_of(panel), *next = list;
  for (int r = 0; r < rows; ++r) {
    const int n = panel * kPanel + r;
    m.begin[n] = static_cast<int32_t>(next - list);
    for (int group = 0; group < groups; ++group) {
      uint64_t word = bits[r * groups + group];
      const int32_t first = group * 64 * kPanel;
      int32_t* const end = next + __builtin_popcountll(word);
      // In fours, so that the processor guesses right more often; what is too much is overwritten.
      for (; next < end; next += 4)
        PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
          next[i] = first + __builtin_ctzll(word | uint64_t{1} << 63) * kPanel;
          word &= word - 1;
        }
      next = end;
    }
    m.count[n] = static_cast<int32_t>(next - list) - m.begin[n];
  }
}

// How many of the units in a span are active in the rows of a panel, all rows together.
PYMICROGPT_INLINE int count_pairs(const Mlp& m, int panel, Span units) {
  const uint16_t* active = m.active + int64_t{panel} * m.mask_units;
  int pairs = 0;
  for (int u = units.first; u < units.last; ++u) pairs += __builtin_popcount(active[u]);
  return pairs;
}

// ---- by row: y[n] = sum over the units u of value[u][n] w[u] ----

template <int P, class Then>
void sum_listed(const Mlp& m, Panels values, Strips w, int row_panel, int rows, int panel, Then then) {
  constexpr int U = P * kVectors;
  const int64_t panels = w.width / kPanel;
  w.data += panel * kPanel;
  for (int r = 0; r < rows; ++r) {
    const int n = row_panel * kPanel + r;
    const float* value = values.at(row_panel, r);
    const int32_t *entry = m.list_of(row_panel) + m.begin[n], *end = entry + m.count[n];
    V sum[U];
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) sum[u] = V::set(0.0f);
    for (; entry != end; ++entry) {
      const V x = V::set(value[*entry]);
      const float* row = w.data + *entry * panels;
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
        sum[u] = fma(x, V::load(row + u * V::lanes), sum[u]);
    }
    PYMICROGPT_UNROLL for (int p = 0; p < P; ++p) then(n, panel + p, row_of(sum, p));
  }
}

template <int P, class Then>
void sum_all(const Mlp& m, Panels values, Strips w, int row_panel, int rows, int panel, Then then) {
  constexpr int fit = V::accumulators / (P * kVectors);
  split_evenly(rows, fit < kPanel ? fit : kPanel, [&](int first, int some) {
    with_up_to<(fit < kPanel ? fit : kPanel)>(some, [&](auto R) {
      const int row = row_panel * kPanel + first;
      V sum[R.value][P * kVectors];
      outer_products<R.value, P>(sum, w, panel, values, row, m.units);
      PYMICROGPT_UNROLL for (int r = 0; r < R.value; ++r)
        PYMICROGPT_UNROLL for (int p = 0; p < P; ++p) then(row + r, panel + p, row_of(sum[r], p));
    });
  });
}

// The first `rows` rows of a panel.
template <class Then>
void sum_units(const Mlp& m, Panels values, const Matrix& matrix, int row_panel, int rows, Then then) {
  constexpr int most = V::accumulators / kVectors >= 8 ? 8 : 4;  // panels in registers at a time
  const Strips w = m.weights(matrix);
  const int panels = panels_of(matrix.lanes());
  if (m.dense[row_panel])
    split_evenly(panels, V::tile_panels, [&](int panel, int some) {
      with_up_to<V::tile_panels>(some, [&](auto P) {
        sum_all<P.value>(m, values, w, row_panel, rows, panel, then);
      });
    });
  else
    split_evenly(panels, most, [&](int panel, int some) {
      with_up_to<most>(some, [&](auto P) {
        sum_listed<P.value>(m, values, w, row_panel, rows, panel, then);
      });
    });
}

// ---- by pair: dh[u][n] = dx2[n] . fc2[u], and 0 where h is 0 ----

// Of the listed pairs.
template <int P>
void pair_gradients(const Mlp& m, int row_panel, int rows) {
  const Strips w = m.weights(m.fc2);
  const int panels = P > 0 ? P : static_cast<int>(w.width / kPanel), U = panels * kVectors;
  for (int i = 0; i < m.units; ++i) Row::set(0.0f).store(m.dh.at(row_panel, int64_t{i} * kPanel));
  for (int r = 0; r < rows; ++r) {
    const int n = row_panel * kPanel + r;
    const float* d = m.dx2_rows.at(0, n);
    float* dh = m.dh.at(row_panel, r);
    const int32_t* entry = m.list_of(row_panel) + m.begin[n];
    for (int left = m.count[n]; left > 0; left -= 4, entry += 4) {
      const float* row[4];
      V sum[4];
      PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {  // the last four may be fewer
        row[i] = w.data + int64_t{entry[i < left ? i : 0]} * panels;
        sum[i] = V::set(0.0f);
      }
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
        const V x = V::load(d + u * V::lanes);
        PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i)
          sum[i] = fma(x, V::load(row[i] + u * V::lanes), sum[i]);
      }
      float dots[4];
      across_quads(reduce4(sum[0], sum[1], sum[2], sum[3])).store_quad(dots);
      for (int i = 0; i < 4 && i < left; ++i) dh[entry[i]] = dots[i];
    }
  }
}

// Of all pairs.
void all_gradients(const Mlp& m, Panels dx2, int row_panel, int rows) {
  for (int r = 0; r < rows; r += 4)
    groups_of_units(m.units, [&](int unit, auto U) {
      dots4<U.value>(dx2, row_panel * kPanel + r, m.weights(m.fc2), unit, [&](int u, const V& dots) {
        const int64_t at = int64_t{unit + u} * kPanel;
        const V h = V::load_quad(m.h.at(row_panel, at) + r);
        where_greater(h, V::set(0.0f), dots).store_quad(m.dh.at(row_panel, at) + r);
      });
    });
}

// ---- by unit: dfc2[u] = sum over n of h[u][n] dx2[n], dfc1[u] = sum over n of dh[u][n] b[n] ----

// What becomes of the gradients of a block of rows.
struct Gradient {
  bool add;          // to those of the blocks before, which are in g
  const Adam* adam;  // of the last block: the step, or null to keep the gradient in g
};

// Sixteen weights. Bits: which have moved, and which are not finite.
struct Moved {
  unsigned here, broken;
};
PYMICROGPT_INLINE Moved take(const Matrix& w, int64_t at, Row gradient, const Gradient& then) {
  if (then.add) gradient = Row::load(w.g + at) + gradient;
  if (then.adam == nullptr) {
    gradient.store(w.g + at);
    return {0, 0};
  }
  Moved moved{0, 0};
  PYMICROGPT_UNROLL for (int u = 0; u < kVectors; ++u, at += V::lanes) {
    const V before = V::load(w.p + at);
    const V after = then.adam->update(before, gradient.v[u], w.m + at, w.v + at);
    after.store(w.p + at);
    moved.here |= unequal(before, after);
    moved.broken |= unequal(after - after, V::set(0.0f));
  }
  return moved;
}

struct Update {
  Matrix w;
  Gradient gradient;
  int* not_finite;
  PYMICROGPT_INLINE void operator()(int unit, int panel, const Row& sum) const {
    const int64_t at = (int64_t{unit} * panels_of(w.lanes()) + panel) * kPanel;
    if (take(w, at, sum, gradient).broken) __atomic_store_n(not_finite, 1, __ATOMIC_RELAXED);
  }
};

// P panels of the two rows of a unit, from those rows of a span in which it is active.
template <int P>
void unit_weights(Mlp& m, int unit, int panel, Span rows, const Gradient& then) {
  constexpr int U = P * kVectors;
  V g1[U], g2[U];
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) g1[u] = g2[u] = V::set(0.0f);
  for (int first = rows.first; first < rows.last; first += 64)
    for (uint64_t word = m.rows_of(unit, first, rows.last); word != 0; word &= word - 1) {
      const int n = first + __builtin_ctzll(word);
      const int64_t at = n / kPanel * m.h.stride + int64_t{unit} * kPanel + n % kPanel;
      const V h = V::set(m.h.data[at]), dh = V::set(m.dh.data[at]);
      const float *x = m.dx2_rows.at(panel, n), *y = m.b_rows.at(panel, n);
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
        g2[u] = fma(h, V::load(x + u * V::lanes), g2[u]);
        g1[u] = fma(dh, V::load(y + u * V::lanes), g1[u]);
      }
    }
  const Update update1{m.fc1, then, &m.not_finite}, update2{m.fc2, then, &m.not_finite};
  PYMICROGPT_UNROLL for (int p = 0; p < P; ++p) {
    update1(unit, panel + p, row_of(g1, p));
    update2(unit, panel + p, row_of(g2, p));
  }
}

// ---- units at rest ----
// A unit that is active nowhere has no gradient; its moments decay and its weights drift on until the
// steps of Adam are too small to change a bit of them. Where such steps get smaller from one to the
// next (calm, in matrix.h), the unit then stands still: its moments decay when somebody needs them.

// The moments of a unit, as the steps that it has stood still for would have left them.
void catch_up(const Mlp& m, int unit, V beta1, V beta2) {
  if (m.still[unit] == 0) return;
  const int64_t width = int64_t{panels_of(m.fc1.lanes())} * kPanel, at = unit * width;
  for (int64_t i = at; i < at + width; i += V::lanes)
    for (const Matrix* w : {&m.fc1, &m.fc2}) {
      V m1 = V::load(w->m + i), v1 = V::load(w->v + i);
      for (int step = 1; step < m.still[unit]; ++step) {
        m1 = fma(beta1, m1, V::set(0.0f));
        v1 = fma(beta2, v1, V::set(0.0f));
      }
      m1.store(w->m + i);
      v1.store(w->v + i);
    }
  m.still[unit] = 0;
}

void catch_up_all(const Mlp& m, float beta1, float beta2) {
  if (!m.by_unit) return;
  for (int unit = 0; unit < m.units; ++unit) catch_up(m, unit, V::set(beta1), V::set(beta2));
}

bool active_anywhere(const Mlp& m, int unit, int rows) {
  uint64_t any = 0;
  for (int n = 0; n < rows; n += 64) any |= m.rows_of(unit, n, rows);
  return any != 0;
}

void clear_gradient(const Mlp& m, int unit) {
  const int64_t width = int64_t{panels_of(m.fc1.lanes())} * kPanel;
  for (int64_t at = unit * width; at < (unit + 1) * width; at += kPanel) {
    Row::set(0.0f).store(m.fc1.g + at);
    Row::set(0.0f).store(m.fc2.g + at);
  }
}

// A step of a unit without gradient. calm: such steps get smaller.
void rest(const Mlp& m, int unit, const Adam& shared, bool calm) {
  if (calm && m.still[unit] > 0) {
    ++m.still[unit];
    return;
  }
  catch_up(m, unit, shared.beta1, shared.beta2);
  const Adam adam = shared;  // copies, which no store can alias
  const Matrix fc1 = m.fc1, fc2 = m.fc2;
  const int64_t width = int64_t{panels_of(fc1.lanes())} * kPanel;
  const Row zero = Row::set(0.0f);
  unsigned moved = 0;
  for (int64_t at = unit * width; at < (unit + 1) * width; at += kPanel)
    moved |= take(fc1, at, zero, {false, &adam}).here | take(fc2, at, zero, {false, &adam}).here;
  m.still[unit] = moved == 0;
}

// The hidden values of a batch of `rows` that are not zero, and the units that are active or at rest.
Activity activity_of(const Mlp& m, int rows) {
  int64_t values = 0;
  int units = 0, resting = 0;
  for (int u = 0; u < m.units; ++u) {
    int active = 0;
    for (int n = 0; n < rows; ++n)
      active += *(m.by_unit ? m.h.at(n / kPanel, int64_t{u} * kPanel) + n % kPanel
                            : m.h.at(u / kPanel, int64_t{n} * kPanel) + u % kPanel) != 0.0f;
    values += active;
    units += active > 0;
    resting += m.by_unit && m.still[u] > 0;
  }
  const double all = m.units;
  return {static_cast<double>(values) / rows / all, units / all, resting / all};
}

bool finite(const Mlp& m) {
  unsigned broken = 0;
  for (const Matrix* w : {&m.fc1, &m.fc2})
    for (int64_t i = 0; i < w->size(); i += V::lanes) {
      const V x = V::load(w->p + i);
      broken |= unequal(x - x, V::set(0.0f));
    }
  return broken == 0;
}

// ---- the three passes ----

void mlp_forward(const Mlp& m, Panels b, Panels x1, Panels x2, const int32_t* self, Span rows) {
  const int C = m.fc1.ins, panels = panels_of(C);
  if (!m.by_unit) {
    forward(m.fc1, b, rows, Relu{m.h});
    forward(m.fc2, m.h, rows, Residual{x2, x1, self});
    return;
  }
  const int first = rows.first / kPanel, last = panels_of(rows.last);
  if (first >= last) return;
  uint16_t* active = m.active + int64_t{first} * m.mask_units;
  if (m.few) {
    for (int p = first; p < last; ++p)
      few_hidden(m, b, p, rows.last - p * kPanel < kPanel ? rows.last - p * kPanel : kPanel);
  } else {
    transpose_rows(m.bt, b, panels, first, last);
    product(m.weights(m.fc1), C, Panels{m.bt.at(first, 0), m.bt.stride}, last - first, {0, m.units},
            Hidden{{m.h.at(first, 0), m.h.stride}, active, m.mask_units, m.all()});
  }
  const int over = rows.last % kPanel;
  for (int u = 0; over > 0 && u < m.units; ++u)
    m.active[int64_t{last - 1} * m.mask_units + u] &= static_cast<uint16_t>((1 << over) - 1);
  for (int p = first; p < last; ++p) {
    const int some = rows.last - p * kPanel < kPanel ? rows.last - p * kPanel : kPanel;
    m.dense[p] = worth_tiles(count_pairs(m, p, {0, m.units}), some * m.units, panels, false);
    if (!m.dense[p]) find_active(m, p, some);
    sum_units(m, m.h, m.fc2, p, some, Residual{x2, x1, self});
  }
}

// dh = where h is active: dx2 fc2;  db = dh fc1
void mlp_backward(const Mlp& m, Panels b, Panels dx2, Panels db, Span rows) {
  const int panels = panels_of(m.fc1.ins);
  if (!m.by_unit) {
    input_gradient(m.fc2, dx2, rows, Mask{m.dh, m.h});
    input_gradient(m.fc1, m.dh, rows, Store{db});
    return;
  }
  copy_rows(m.b_rows, b, panels, rows.first, rows.last);
  copy_rows(m.dx2_rows, dx2, panels, rows.first, rows.last);
  for (int p = rows.first / kPanel; p * kPanel < rows.last; ++p) {
    const int some = rows.last - p * kPanel < kPanel ? rows.last - p * kPanel : kPanel;
    if (m.dense[p]) all_gradients(m, dx2, p, some);
    else with_one_of<2, 4, 8>(panels, [&](auto P) { pair_gradients<P.value>(m, p, some); });
    sum_units(m, m.dh, m.fc1, p, some, Store{db});
  }
}

// dfc2 = dx2 h, dfc1 = dh b, and Adam. calm: steps without gradient get smaller.
void mlp_weights(Mlp& m, Panels b, Panels dx2, int rows, const Adam* adam, bool calm, Share& share) {
  if (!m.by_unit) {
    weight_gradient(dx2, m.h, rows, m.fc2, adam, share);
    weight_gradient(m.dh, b, rows, m.fc1, adam, share);
    return;
  }
  constexpr int fit = power_of_two_below(V::accumulators / (2 * kVectors));
  constexpr int most = fit < 8 ? fit : 8;  // panels of both weights in registers at a time
  const int panels = panels_of(m.fc1.ins);
  const int block = block_rows(panels), step = rows > 2 * block ? block : rows;
  for (int row = 0; row < rows; row += step) {
    const Span here{row, row + step < rows ? row + step : rows};
    const bool last = here.last == rows;
    const Gradient then{row > 0, last ? adam : nullptr};
    for (int first = 0; first < m.units; first += kPanel) {
      if (first / kPanel % share.size != share.rank) continue;  // the same one for every block
      const Span units{first, first + kPanel < m.units ? first + kPanel : m.units};
      int pairs = 0;
      for (int p = row / kPanel; p * kPanel < here.last; ++p) pairs += count_pairs(m, p, units);
      const bool tiles =
          worth_tiles(pairs, (here.last - row) * (units.last - units.first), 2 * panels, step < rows);
      for (int u = units.first; u < units.last; ++u) {
        const bool idle = adam != nullptr && !active_anywhere(m, u, rows);
        if (idle && !tiles) {
          if (last) rest(m, u, *adam, calm);
          continue;
        }
        if (idle && then.add) clear_gradient(m, u);  // the blocks before may have left it out
        if (then.adam != nullptr) catch_up(m, u, adam->beta1, adam->beta2);
        if (!tiles)
          split_evenly(panels, most, [&](int panel, int some) {
            with_up_to<most>(some, [&](auto P) { unit_weights<P.value>(m, u, panel, here, then); });
          });
      }
      if (!tiles) continue;
      const int count = here.last - row, row_panel = row / kPanel;
      product(Panels{m.h.at(row_panel, 0), m.h.stride}, count,
              Panels{dx2.at(0, int64_t{row} * kPanel), dx2.stride}, panels, units,
              Update{m.fc2, then, &m.not_finite});
      product(Panels{m.dh.at(row_panel, 0), m.dh.stride}, count,
              Panels{b.at(0, int64_t{row} * kPanel), b.stride}, panels, units,
              Update{m.fc1, then, &m.not_finite});
    }
  }
}

}  // namespace
}  // namespace microgpt
