// The MLP, x2 = x1 + fc2 relu(fc1 m), by hidden unit: with units.h and narrow.h the only place that
// knows of zeros.
//
// The five products that zeros take part in are over active pairs (row, unit): those of the weights
// exactly, those of x2, dh and dm over pairs of four rows with the units that are active in some of
// them, so that each weight is loaded once for four sums that do not wait for each other. Where
// much is active the same sums are done in register tiles.
#pragma once
#include "narrow.h"

namespace microgpt {
namespace {

// Whether more than this share of all pairs is active, from where on tiles are faster than lists:
// measured.
PYMICROGPT_INLINE bool worth_tiles(int pairs, int all, float share) {
  return static_cast<float>(pairs) > share * static_cast<float>(all);
}
PYMICROGPT_INLINE float share_for_sums(const Mlp& mlp) {
  const float share = 0.6f - 0.8f / static_cast<float>(panels_of(mlp.fc1.ins) * kVectors);
  return mlp.few || share > 0.5f ? 0.5f : share;
}
// Many rows do not stay in the cache between their pairs.
PYMICROGPT_INLINE float share_for_weights(int panels, bool many_rows) {
  return panels * kVectors < 4 ? 0.35f : many_rows ? 0.4f : 0.5f;
}
PYMICROGPT_INLINE Way way_of(const Mlp& mlp, int pairs, int all) {
  if (worth_tiles(pairs, all, share_for_sums(mlp))) return Way::tiles;
  if (mlp.all()) return Way::every;
  return mlp.fits() || pairs <= all / kListed ? Way::lists : Way::parts;
}

// Rows of m and dx2 that stay in the cache while all units pass by.
PYMICROGPT_INLINE int block_rows(int panels) { return panels > 4 ? 64 : 512 / panels / 64 * 64; }

// Dot products of four rows with the weights of U units, which are at of(u): f(u, x[n + i] . of(u)
// in element i of each quad). The order of their sums is that of four_gradients.
template <int U, class Of, class F>
PYMICROGPT_INLINE void dots4(Panels x, int n, int panels, Of of, F f) {
  Vec sum[U][4];
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) sum[u][i] = Vec::set(0.0f);
  for (int p = 0; p < panels; ++p) {
    const float* row = x.at(p, int64_t{n} * kPanel);
    PYMICROGPT_UNROLL for (int v = 0; v < kVectors; ++v) {
      Vec value[4];
      PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i)
        value[i] = Vec::load(row + i * kPanel + v * Vec::lanes);
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
        const Vec of_unit = Vec::load(of(u) + p * kPanel + v * Vec::lanes);
        PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) sum[u][i] = fma(value[i], of_unit, sum[u][i]);
      }
    }
  }
  PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
    f(u, across_quads(reduce4(sum[u][0], sum[u][1], sum[u][2], sum[u][3])));
}

// f(unit, U) for the units in groups of as many as dots4 takes.
template <class F>
PYMICROGPT_INLINE void groups_of_units(Span units, F f) {
  constexpr int most = Vec::accumulators / 4;
  split_evenly(units.last - units.first, most, [&](int unit, int some) {
    with_up_to<most>(some, [&](auto U) { f(units.first + unit, U); });
  });
}

[[maybe_unused]] void copy_rows(Strips to, Panels from, int panels, int first, int last) {
  for (int n = first; n < last; ++n)
    for (int p = 0; p < panels; ++p)
      Vec16::load(from.at(p, int64_t{n} * kPanel)).store(to.at(p, n));
}

// All units count as active in the first `rows` rows of a panel.
PYMICROGPT_INLINE void activate(const Mlp& mlp, int panel, int rows) {
  for (int u = 0; u < mlp.units; ++u)
    mlp.active[int64_t{panel} * mlp.mask_units + u] = static_cast<uint16_t>((1u << rows) - 1);
}

// The active units of each row of a panel, as bits.
void find_bits(const Mlp& mlp, int panel) {
  const int parts = mlp.parts();
  const uint16_t* active = mlp.active + int64_t{panel} * mlp.mask_units;
  uint64_t* bits = mlp.bits + int64_t{panel} * kPanel * parts;
  for (int part = 0; part < parts; ++part) transpose_bits(active + part * 64, bits + part, parts);
}

// And as lists, of every four of the first `rows` rows: the units active in some of them.
void find_lists(const Mlp& mlp, int panel, int rows) {
  int32_t *list = mlp.list_of(panel), *next = list;
  const uint16_t* active = mlp.active + int64_t{panel} * mlp.mask_units;
  for (int r = 0; r < rows; r += 4) {
    const int n = panel * kPanel + r;
    mlp.begin[n] = static_cast<int32_t>(next - list);
    for (int part = 0; part < mlp.parts(); ++part)
      next = list_bits(next, set_bits(active + part * 64, static_cast<uint16_t>(15 << r)),
                       part * 64 * kPanel);
    mlp.count[n] = static_cast<int32_t>(next - list) - mlp.begin[n];
  }
}

// How many of the units in a span are active in the rows of a panel, all rows together.
PYMICROGPT_INLINE int count_pairs(const Mlp& mlp, int panel, Span units) {
  const uint16_t* active = mlp.active + int64_t{panel} * mlp.mask_units;
  int pairs = 0;
  for (int u = units.first; u < units.last; u += 4) {  // 4 n_embd units, that is
    uint64_t four;
    __builtin_memcpy(&four, active + u, sizeof four);
    pairs += __builtin_popcountll(four);
  }
  return pairs;
}

// ---- by row: y[n] = sum over the units u of value[u][n] w[u] ----

// The first `rows` rows of a panel, four at a time over their lists.
template <int P, class Then>
void sum_lists(const Mlp& mlp, Panels values, Strips w, int row_panel, int rows, int panel,
               Then then) {
  const int64_t step = w.stride / kPanel;
  w.data += panel * kPanel;
  for (int r = 0; r < rows; r += 4) {
    const int n = row_panel * kPanel + r;
    const float* value = values.at(row_panel, r);
    const int32_t *entry = mlp.list_of(row_panel) + mlp.begin[n], *end = entry + mlp.count[n];
    Vec sum[4][P * kVectors];
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i)
      PYMICROGPT_UNROLL for (int u = 0; u < P * kVectors; ++u) sum[i][u] = Vec::set(0.0f);
    for (; entry != end; ++entry) {
      const float *weights = w.data + *entry * step, *four = value + *entry;
      Vec weight[P * kVectors];
      PYMICROGPT_UNROLL for (int u = 0; u < P * kVectors; ++u)
        weight[u] = Vec::load(weights + u * Vec::lanes);
      PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
        const Vec factor = Vec::set(four[i]);
        PYMICROGPT_UNROLL for (int u = 0; u < P * kVectors; ++u)
          sum[i][u] = fma(factor, weight[u], sum[i][u]);
      }
    }
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i)
      if (r + i < rows)
        PYMICROGPT_UNROLL for (int p = 0; p < P; ++p)
          end_sum(then, n + i, panel + p, sixteen_of(sum[i], p));
  }
}

// The same over 64 units.
template <int P, class Then>
void sum_part(const Mlp& mlp, Panels values, Strips w, int row_panel, int rows, int panel, int part,
              Then then) {
  w.data += int64_t{part} * 64 * w.stride + panel * kPanel;
  for (int r = 0; r < rows; ++r) {
    const int n = row_panel * kPanel + r;
    const float* value = values.at(row_panel, int64_t{part} * 64 * kPanel + r);
    const Tile tile = then.tile(n, panel);
    Vec sum[1][P * kVectors];
    begin_sums(sum, tile, part == 0);
    for (uint64_t word = mlp.units_of(n, part); word != 0; word &= word - 1) {
      const int unit = __builtin_ctzll(word);
      const Vec factor = Vec::set(value[unit * kPanel]);
      const float* weights = w.data + unit * w.stride;
      PYMICROGPT_UNROLL for (int u = 0; u < P * kVectors; ++u)
        sum[0][u] = fma(factor, Vec::load(weights + u * Vec::lanes), sum[0][u]);
    }
    end_sums(sum, tile, then, n, panel, part == mlp.parts() - 1);
  }
}

// The same over a part of all units.
template <int P, class Then>
void sum_all(const Mlp& mlp, Panels values, Strips w, int row_panel, int rows, int panel, Span part,
             const Then& then) {
  constexpr int fit = Vec::accumulators / (P * kVectors), most = fit < kPanel ? fit : kPanel;
  split_evenly(rows, most, [&](int first, int some) {
    with_up_to<most>(some, [&](auto R) {
      const int row = row_panel * kPanel + first;
      const Tile tile = then.tile(row, panel);
      Vec sum[R.value][P * kVectors];
      begin_sums(sum, tile, part.first == 0);
      outer_products(sum, w, panel, values, row, part);
      end_sums(sum, tile, then, row, panel, part.last == mlp.units);
    });
  });
}

// f(row panel, its rows) for the panels of a span, or for those that go one way. Where the span
// begins within a panel, as in generation, the rows before it are done again.
template <class F>
PYMICROGPT_INLINE void each_row_panel(Span rows, F f) {
  for (int p = rows.first / kPanel; p * kPanel < rows.last; ++p)
    f(p, rows.last - p * kPanel < kPanel ? rows.last - p * kPanel : kPanel);
}
template <class F>
PYMICROGPT_INLINE void each_row_panel(const Mlp& mlp, Span rows, Way way, F f) {
  each_row_panel(rows, [&](int panel, int some) {
    if (mlp.way[panel] == way) f(panel, some);
  });
}
// The panels that are summed by tiles.
template <class F>
PYMICROGPT_INLINE void each_tiled_panel(const Mlp& mlp, Span rows, F f) {
  each_row_panel(rows, [&](int panel, int some) {
    if (mlp.way[panel] >= Way::tiles) f(panel, some);
  });
}
// f(their rows) for panels that go one way, as many as stand side by side at once.
template <class F>
[[maybe_unused]] void each_run(const Mlp& mlp, Span rows, Way way, F f) {
  int run = 0;  // rows
  each_row_panel(rows, [&](int panel, int some) {
    const int end = panel * kPanel + some;
    run = mlp.way[panel] == way ? run + some : 0;
    if (run > 0 && (end >= rows.last || mlp.way[panel + 1] != way)) f(Span{end - run, end});
  });
}

// By the matrix unit.
template <class Then>
[[maybe_unused]] void sum_runs(const Mlp& mlp, Panels values, Strips w, int panels, Span rows,
                               const Then& then) {
  for (const Way way : {Way::tiles, Way::every})
    each_run(mlp, rows, way, [&](Span run) {
      const Tile y = then.tile(run.first, 0);
      Unit::sum({run.last - run.first, panels, mlp.units,
                 values.at(run.first / kPanel, 0), kPanel, values.stride, false,
                 w.data, w.stride, kPanel,
                 y.first, y.row_step, y.panel_step});
      finish(panels, run, then);
    });
}

template <class Then>
void sum_units(const Mlp& mlp, Panels values, const Matrix& matrix, Span rows, const Then& then) {
  constexpr int fit = power_of_two_below(Vec::accumulators / kVectors);
  constexpr int most = fit < 8 ? fit : 8;  // panels in registers at a time
  const Strips w = mlp.weights(matrix);
  const int panels = panels_of(matrix.lanes());
  const auto panels_at_a_time = [&](auto f) {
    split_evenly(panels, most, [&](int panel, int some) {
      with_up_to<most>(some, [&](auto P) { f(panel, P); });
    });
  };
  constexpr int fours = power_of_two_below(Vec::accumulators / (4 * kVectors));
  each_row_panel(mlp, rows, Way::lists, [&](int row_panel, int some) {
    split_evenly(panels, fours, [&](int panel, int some_panels) {
      with_up_to<fours>(some_panels, [&](auto P) {
        sum_lists<P.value>(mlp, values, w, row_panel, some, panel, then);
      });
    });
  });
  for (int part = 0; !Vec::compact && part < mlp.parts(); ++part)
    panels_at_a_time([&](int panel, auto P) {
      each_row_panel(mlp, rows, Way::parts, [&](int row_panel, int some) {
        sum_part<P.value>(mlp, values, w, row_panel, some, panel, part, then);
      });
    });
  if constexpr (Unit::there) return sum_runs(mlp, values, w, panels, rows, then);
  each_block(mlp.units, {rows.first / kPanel * kPanel, rows.last}, [&](Span part, Span block) {
    split_evenly(panels, Vec::tile_panels, [&](int panel, int some) {
      with_up_to<Vec::tile_panels>(some, [&](auto P) {
        each_tiled_panel(mlp, block, [&](int row_panel, int some_rows) {
          sum_all<P.value>(mlp, values, w, row_panel, some_rows, panel, part, then);
        });
      });
    });
  });
}

// ---- by pair: dh[u][n] = dx2[n] . fc2[u], and 0 where h is 0 ----

// dx2[n] . fc2[u] for four units of row n, 16 times which is in `entry`; to dh[entry[i]].
template <int P>
PYMICROGPT_INLINE void four_gradients(const Mlp& mlp, const Strips& w, int n,
                                      const int32_t (&entry)[4], float* dh) {
  const int panels = P > 0 ? P : panels_of(mlp.fc2.outs);
  const int64_t step = w.stride / kPanel;
  const float* dx2 = mlp.dx2_rows.at(0, n);
  const float* fc2_row[4];
  Vec sum[4];
  PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
    fc2_row[i] = w.data + entry[i] * step;
    sum[i] = Vec::set(0.0f);
  }
  PYMICROGPT_UNROLL for (int u = 0; u < panels * kVectors; ++u) {
    const Vec in_lanes = Vec::load(dx2 + u * Vec::lanes);
    PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i)
      sum[i] = fma(in_lanes, Vec::load(fc2_row[i] + u * Vec::lanes), sum[i]);
  }
  float dots[4];
  across_quads(reduce4(sum[0], sum[1], sum[2], sum[3])).store_quad(dots);
  PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) dh[entry[i]] = dots[i];
}

// Of the listed units; nobody asks for those of others.
void list_gradients(const Mlp& mlp, Panels dx2, int row_panel, int rows) {
  constexpr int U = Vec::accumulators < 16 ? Vec::accumulators / 4 : 4;  // four sums each
  const Strips w = mlp.weights(mlp.fc2);
  const int panels = panels_of(mlp.fc2.outs);
  const int64_t step = w.stride / kPanel;
  for (int r = 0; r < rows; r += 4) {
    const int n = row_panel * kPanel + r;
    const int32_t* list = mlp.list_of(row_panel) + mlp.begin[n];
    const float* h = mlp.h.at(row_panel, r);
    float* dh = mlp.dh.at(row_panel, r);
    for (int left = mlp.count[n]; left > 0; left -= U, list += U) {
      int32_t entry[U];  // the last may be fewer: the first of them again
      const float* weights[U];
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
        entry[u] = list[u < left ? u : 0];
        weights[u] = w.data + entry[u] * step;
      }
      dots4<U>(dx2, n, panels, [&](int u) PYMICROGPT_INLINED { return weights[u]; },
               [&](int u, const Vec& dots) PYMICROGPT_INLINED {
        where_greater(Vec::load_quad(h + entry[u]), Vec::set(0.0f), dots).store_quad(dh + entry[u]);
      });
    }
  }
}

// Of the pairs in a part of all units.
template <int P>
void part_gradients(const Mlp& mlp, int row_panel, int rows, int part) {
  const Strips w = mlp.weights(mlp.fc2);
  for (int n = row_panel * kPanel; n < row_panel * kPanel + rows; ++n) {
    uint64_t word = mlp.units_of(n, part);
    for (int left = __builtin_popcountll(word); left > 0; left -= 4) {
      int32_t entry[4], unit = 0;
      PYMICROGPT_UNROLL for (int i = 0; i < 4; ++i) {
        // The last four may be fewer: the last of them again.
        unit = word != 0 ? part * 64 + __builtin_ctzll(word) : unit;
        entry[i] = unit * kPanel;
        word &= word - 1;
      }
      four_gradients<P>(mlp, w, n, entry, mlp.dh.at(row_panel, n % kPanel));
    }
  }
}

// Of all pairs in dense panels, with rows in the lanes as in forward.
struct HiddenGradient {
  static constexpr bool as_is = false;
  Panels dh, h;
  PYMICROGPT_INLINE HiddenGradient(const Mlp& mlp, int first_panel)
      : dh{mlp.dh.at(first_panel, 0), mlp.dh.stride}, h{mlp.h.at(first_panel, 0), mlp.h.stride} {}
  PYMICROGPT_INLINE Tile tile(int unit, int panel) const { return dh.tile(unit, panel); }
  PYMICROGPT_INLINE void operator()(int unit, int panel, float* to, const Vec16& sum) const {
    const Vec16 value = Vec16::load(h.at(panel, int64_t{unit} * kPanel));
    where_greater(value, Vec16::set(0.0f), sum).store(to);
  }
};
[[maybe_unused]] void tile_gradients(const Mlp& mlp, Panels dx2, Span rows) {
  each_run(mlp, rows, Way::tiles, [&](Span run) {
    const int C = mlp.fc2.outs, first = run.first / kPanel, last = panels_of(run.last);
    transpose_rows(mlp.mt, dx2, panels_of(C), first, last);
    whole_product(mlp.weights(mlp.fc2), C, Panels{mlp.mt.at(first, 0), mlp.mt.stride}, last - first,
                  {0, mlp.units}, HiddenGradient(mlp, first));
  });
}

// And by dot products, as of lists. Some units at a time, whose weights stay in the cache.
void all_gradients(const Mlp& mlp, Panels dx2, Span rows) {
  const int panels = panels_of(mlp.fc2.outs), most = panels < 16 ? 384 / panels : 24;
  split_evenly(mlp.units, most, [&](int first, int some) {
    each_tiled_panel(mlp, rows, [&](int row_panel, int some_rows) {
      if (!Vec::compact && mlp.way[row_panel] == Way::tiles) return;  // tile_gradients
      for (int r = 0; r < some_rows; r += 4)
        groups_of_units({first, first + some}, [&](int unit, auto U) {
          const Strips w = mlp.weights(mlp.fc2);
          const float* weights = w.at(0, unit);
          dots4<U.value>(dx2, row_panel * kPanel + r, panels,
                         [&](int u) PYMICROGPT_INLINED { return weights + u * w.stride; },
                         [&](int u, const Vec& dots) {
            const int64_t at = int64_t{unit + u} * kPanel;
            const Vec h = Vec::load_quad(mlp.h.at(row_panel, at) + r);
            where_greater(h, Vec::set(0.0f), dots).store_quad(mlp.dh.at(row_panel, at) + r);
          });
        });
    });
  });
}

// ---- by unit: dfc2[u] = sum over n of h[u][n] dx2[n], dfc1[u] = sum over n of dh[u][n] m[n] ----

// The hidden values of a unit and their gradients.
PYMICROGPT_INLINE void prefetch(const Mlp& mlp, int unit, Span rows) {
  for (int p = rows.first / kPanel; p * kPanel < rows.last; ++p) {
    __builtin_prefetch(mlp.h.at(p, int64_t{unit} * kPanel));
    __builtin_prefetch(mlp.dh.at(p, int64_t{unit} * kPanel));
  }
}

// P panels of the two rows of `count` units of a list, from those rows of a span in which each is
// active; the sums over the rows before are in g. With `adam`, which comes with the last rows,
// its step. Whether a weight is not finite. far: hidden values are fetched early.
template <int P>
bool unit_weights(const Mlp& shared, Panels m, Panels dx2, const int32_t* list, int count,
                  int panel, Span rows, const Adam* adam, bool far) {
  constexpr int U = P * kVectors;
  const Mlp mlp = shared;  // a copy, which no store can alias
  const int64_t skip = mlp.h.stride - kPanel, next = m.stride;
  bool broken = false;
  for (int i = 0; i < count; ++i) {
    const int64_t unit = list[i] / kPanel, at = unit * mlp.fc1.strip() + panel * kPanel;
    if (far && i + 2 < count) prefetch(mlp, list[i + 2] / kPanel, rows);
    Vec g1[U], g2[U];
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
      g1[u] = rows.first == 0 ? Vec::set(0.0f) : Vec::load(mlp.fc1.g + at + u * Vec::lanes);
      g2[u] = rows.first == 0 ? Vec::set(0.0f) : Vec::load(mlp.fc2.g + at + u * Vec::lanes);
    }
    for (int first = rows.first; first < rows.last; first += 64) {
      const int64_t start = first / kPanel * mlp.h.stride + unit * kPanel;
      const float *h = mlp.h.data + start, *dh = mlp.dh.data + start;
      const float* x = m.at(panel, int64_t{first} * kPanel);
      const float* y = dx2.at(panel, int64_t{first} * kPanel);
      for (uint64_t word = mlp.rows_of(static_cast<int>(unit), first, rows.last); word != 0;
           word &= word - 1) {
        const uint64_t row = static_cast<uint64_t>(__builtin_ctzll(word));
        const uint64_t in_lanes = row + row / kPanel * skip;
        const Vec by_h = Vec::set(h[in_lanes]), by_dh = Vec::set(dh[in_lanes]);
        const float *m_row = x + row * kPanel, *dx2_row = y + row * kPanel;
        PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
          const int p = u / kVectors, lane = u % kVectors * Vec::lanes;
          g2[u] = fma(by_h, Vec::load(dx2_row + p * next + lane), g2[u]);
          g1[u] = fma(by_dh, Vec::load(m_row + p * next + lane), g1[u]);
        }
      }
    }
    if (adam == nullptr) {
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
        g1[u].store(mlp.fc1.g + at + u * Vec::lanes);
        g2[u].store(mlp.fc2.g + at + u * Vec::lanes);
      }
      continue;
    }
    Steps step(*adam);
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) {
      step(mlp.fc1, at + u * Vec::lanes, g1[u], false);
      step(mlp.fc2, at + u * Vec::lanes, g2[u], true);
    }
    broken |= step.broken();
  }
  return broken;
}

// ---- the three passes ----

void mlp_forward(const Mlp& mlp, Panels m, Panels x1, Panels x2, const int32_t* self, Span rows) {
  const int C = mlp.fc1.ins, panels = panels_of(C);
  if (!mlp.by_unit) {
    forward(mlp.fc1, m, rows, Relu{mlp.h});
    forward(mlp.fc2, mlp.h, rows, Residual{x2, x1, self});
    return;
  }
  const int first = rows.first / kPanel, last = panels_of(rows.last);
  if (first >= last) return;
  // Compact code has pairs for half a panel of rows alone.
  if (mlp.few && (!Vec::compact || rows.last - first * kPanel <= kPanel / 2)) {
    for (int p = first; p < last; ++p)
      with_one_of<1>(Vec::compact ? 0 : panels, [&](auto P) {
        if (Vec::compact || rows.last - p * kPanel <= kPanel / 2)
          hidden_tiles<kPanel / 2, P.value>(mlp, m, p, rows.last);
        else hidden_tiles<kPanel, P.value>(mlp, m, p, rows.last);
      });
  } else {
    transpose_rows(mlp.mt, m, panels, first, last);
    whole_product(mlp.weights(mlp.fc1), C, Panels{mlp.mt.at(first, 0), mlp.mt.stride}, last - first,
                  {0, mlp.units},
                  Hidden(mlp, first, rows.last));
  }
  if (!Vec::compact && mlp.narrow)
    return each_row_panel(rows, [&](int p, int some) {
      if (mlp.all()) activate(mlp, p, some);
      find_active(mlp, p);
      sum_narrow(mlp, mlp.h, mlp.fc2, p, some, Residual{x2, x1, self});
    });
  each_row_panel(rows, [&](int p, int some) {
    mlp.way[p] = way_of(mlp, count_pairs(mlp, p, {0, mlp.units}), some * mlp.units);
    if (mlp.all()) activate(mlp, p, some);
    if (mlp.way[p] == Way::parts) find_bits(mlp, p);
    if (mlp.way[p] == Way::lists) find_lists(mlp, p, some);
  });
  settle_active(mlp, rows.last);
  sum_units(mlp, mlp.h, mlp.fc2, rows, Residual{x2, x1, self});
}

// dh = where h is active: dx2 fc2;  dm = dh fc1, for a span of all rows
void mlp_backward(const Mlp& mlp, Panels dx2, Panels dm, Span rows, int all_rows) {
  const int panels = panels_of(mlp.fc1.ins);
  if (!mlp.by_unit) {
    input_gradient(mlp.fc2, dx2, rows, Mask{mlp.dh, mlp.h});
    input_gradient(mlp.fc1, mlp.dh, rows, Store{dm});
    return;
  }
  if (!Vec::compact && mlp.narrow)
    return each_row_panel(rows, [&](int p, int some) {
      // For units that are active in another panel.
      for (int u = 0; all_rows > kPanel && u < mlp.units; ++u)
        Vec16::set(0.0f).store(mlp.dh.at(p, int64_t{u} * kPanel));
      with_up_to<2>(panels, [&](auto P) {
        if (some <= kPanel / 2) narrow_gradients<kPanel / 2, P.value>(mlp, dx2, p);
        else narrow_gradients<kPanel, P.value>(mlp, dx2, p);
      });
      sum_narrow(mlp, mlp.dh, mlp.fc1, p, some, Store{dm});
    });
  if constexpr (!Vec::compact) tile_gradients(mlp, dx2, rows);
  all_gradients(mlp, dx2, rows);
  each_row_panel(mlp, rows, Way::lists, [&](int p, int some) {
    list_gradients(mlp, dx2, p, some);
  });
  if constexpr (!Vec::compact)
    with_one_of<2, 4, 8>(panels, [&](auto P) {
      each_row_panel(mlp, rows, Way::parts, [&](int p, int some) {
        copy_rows(mlp.dx2_rows, dx2, panels, p * kPanel, p * kPanel + some);
      });
      for (int part = 0; part < mlp.parts(); ++part)
        each_row_panel(mlp, rows, Way::parts, [&](int p, int some) {
          part_gradients<P.value>(mlp, p, some, part);
        });
    });
  sum_units(mlp, mlp.dh, mlp.fc1, rows, Store{dm});
}

// A panel of units.
PYMICROGPT_INLINE Span unit_panel(const Mlp& mlp, int panel) {
  return {panel * kPanel, (panel + 1) * kPanel < mlp.units ? (panel + 1) * kPanel : mlp.units};
}

struct StoreStrips {
  static constexpr bool as_is = true;
  Strips y;
  PYMICROGPT_INLINE Tile tile(int n, int p) const { return y.tile(n, p); }
  PYMICROGPT_INLINE void operator()(int, int, float* to, const Vec16& sum) const { sum.store(to); }
};

// dw[u] = sum over n of values[u][n] x[n] by tiles, over all rows, and Adam. With Adam the
// gradients are gone at once: those of all strips of units take the place in g of the first one,
// `room`. Whether a weight is not finite.
bool tile_weights(Panels values, Panels x, int rows, const Matrix& w, Span units,
                  int room, const Adam* adam, bool other) {
  const int panels = panels_of(w.lanes());
  const int64_t stride = w.strip();
  float* g = w.g + (adam != nullptr ? room : units.first) * stride;
  whole_product(values, rows, x, panels, units,
                StoreStrips{Strips{g - units.first * stride, stride}});
  bool broken = false;
  for (int u = units.first; adam != nullptr && u < units.last; ++u, g += stride)
    broken |= step_weights(w, u * stride, g, panels * kPanel, *adam, other);
  return broken;
}

// Where a panel of rows went by lists or parts, dh of what these did not write is left over from
// another step; tiles read all of it.
void clear_gradients(const Mlp& mlp, Span units, int rows) {
  for (int p = 0; p * kPanel < rows; ++p)
    for (int u = units.first; mlp.way[p] < Way::tiles && u < units.last; ++u) {
      float* dh = mlp.dh.at(p, int64_t{u} * kPanel);
      const Vec16 h = Vec16::load(mlp.h.at(p, int64_t{u} * kPanel));
      where_greater(h, Vec16::set(0.0f), Vec16::load(dh)).store(dh);
    }
}

// Gradients over a span of the rows, and Adam after the last, of units within one 64. Where the
// rows do not fit the cache, four panels of them at a time for all units, whose values are fetched
// early, and Adam apart.
void list_weights(Mlp& mlp, Panels m, Panels dx2, int rows, Span here, Span units,
                  const Adam* adam, bool calm, bool many) {
  constexpr int fit = power_of_two_below(Vec::accumulators / (2 * kVectors));
  constexpr int most = fit < 8 ? fit : 8;  // panels of both weights in registers at a time
  const int panels = panels_of(mlp.fc1.ins);
  const bool last = here.last == rows;
  const Split split(mlp, units, rows, adam == nullptr);
  if (last && adam != nullptr) {
    rest(mlp, split.others, split.rest, *adam, calm);
    for (int i = 0; i < split.actives; ++i)
      catch_up(mlp, split.active[i] / kPanel, adam->beta1, adam->beta2);
  }
  const Adam* step = last && !many ? adam : nullptr;
  split_evenly(panels, many && most > 4 ? 4 : most, [&](int panel, int some) {
    with_up_to<most>(some, [&](auto P) {
      mlp.note(unit_weights<P.value>(mlp, m, dx2, split.active, split.actives, panel, here, step,
                                     many));
    });
  });
  for (int i = 0; many && last && adam != nullptr && i < split.actives; ++i)
    for (const Matrix* w : {&mlp.fc2, &mlp.fc1}) {
      const int64_t at = split.active[i] / kPanel * w->strip();
      mlp.note(step_weights(*w, at, w->g + at, panels * kPanel, *adam, w == &mlp.fc2));
    }
}

// dfc2 = dx2 h, dfc1 = dh m, and Adam. calm: steps without gradient get smaller.
void mlp_weights(Mlp& mlp, Panels m, Panels dx2, int rows, const Adam* adam, bool calm,
                 Share& share) {
  if (!mlp.by_unit) {
    weight_gradient(dx2, mlp.h, rows, mlp.fc2, adam, share);
    weight_gradient(mlp.dh, m, rows, mlp.fc1, adam, share);
    return;
  }
  const int panels = panels_of(mlp.fc1.ins), groups = panels_of(mlp.units);
  const Span mine{groups * share.rank / share.size, groups * (share.rank + 1) / share.size};
  if (!Vec::compact && mlp.few) {
    const int end = unit_panel(mlp, mine.last - 1).last;
    for (int first = mine.first * kPanel, last; first < end; first = last) {
      last = first / 64 * 64 + 64 < end ? first / 64 * 64 + 64 : end;
      if (mlp.narrow) narrow_weights(mlp, m, dx2, rows, {first, last}, adam, calm);
      else list_weights(mlp, m, dx2, rows, {0, rows}, {first, last}, adam, calm, false);
    }
    return;
  }
  const int block = block_rows(panels), step = rows > 2 * block ? block : rows;
  // More of m and dx2 than the second cache keeps; groups whose gradients stay in it.
  const bool many = !Vec::compact && rows * panels > 2048;
  const int strip = panels < 8 ? 6 : panels < 48 ? 48 / panels : 1;
  for (int group = mine.first; group < mine.last; ++group) {
    const Span units = unit_panel(mlp, group);
    int pairs = 0;
    for (int p = 0; p * kPanel < rows; ++p) pairs += count_pairs(mlp, p, units);
    mlp.tiles[group] = worth_tiles(pairs, rows * (units.last - units.first),
                                   share_for_weights(panels, many));
  }
  for (int first = mine.first, last = first; first < mine.last; first = last) {
    while (last < mine.last && last - first < strip && mlp.tiles[last]) ++last;
    if (last == first) {
      ++last;
      continue;
    }
    const Span units{first * kPanel, unit_panel(mlp, last - 1).last};
    for (int u = units.first; adam != nullptr && u < units.last; ++u)
      catch_up(mlp, u, adam->beta1, adam->beta2);
    clear_gradients(mlp, units, rows);
    mlp.note(tile_weights(mlp.h, dx2, rows, mlp.fc2, units, mine.first * kPanel, adam, true));
    mlp.note(tile_weights(mlp.dh, m, rows, mlp.fc1, units, mine.first * kPanel, adam, false));
  }
  for (int row = 0; row < rows; row += step) {
    const Span here{row, row + step < rows ? row + step : rows};
    for (int group = mine.first; group < mine.last; ++group)
      if (!mlp.tiles[group])
        list_weights(mlp, m, dx2, rows, here, unit_panel(mlp, group), adam, calm, many);
  }
}

}  // namespace
}  // namespace microgpt
