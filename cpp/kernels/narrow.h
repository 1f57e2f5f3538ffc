// The MLP of few rows by one or two panels of features, where to find a pair costs more than its
// products: all rows of a panel take part in the sums over those units that are active in some of
// them.
#pragma once
#include "units.h"

namespace microgpt {
namespace {

// The units that are active in some row of a panel, as a list; its last entry comes eight times
// more, so that tiles of units may go beyond the end.
void find_active(const Mlp& mlp, int row_panel) {
  const uint16_t* active = mlp.active + int64_t{row_panel} * mlp.mask_units;
  int32_t *list = mlp.list_of(row_panel), *end = list;
  for (int part = 0; part < mlp.parts(); ++part)
    end = list_bits(end, set_bits(active + part * 64, 0xffff), part * 64 * kPanel);
  mlp.count[row_panel * kPanel] = static_cast<int32_t>(end - list);
  for (int i = 0; i < 8 && end != list; ++i) end[i] = end[-1];
}

// R rows from `row` on: y[n] = sum over the list of value[u][n] w[u]
template <int R, int P, class Then>
PYMICROGPT_INLINE void narrow_sums(const Mlp& mlp, Panels values, const float* w, int row,
                                   const Then& shared) {
  constexpr int U = P * kVectors;
  const Then then = shared;  // a copy, which no store can alias
  const int row_panel = row / kPanel;
  const int32_t *entry = mlp.list_of(row_panel), *end = entry + mlp.count[row_panel * kPanel];
  const float* value = values.at(row_panel, row % kPanel);
  Vec sum[R][U];
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) sum[r][u] = Vec::set(0.0f);
  for (; entry != end; ++entry) {
    const float *weights = w + *entry * P, *values_of_unit = value + *entry;
    Vec weight[U];
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) weight[u] = Vec::load(weights + u * Vec::lanes);
    PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) {
      const Vec by = Vec::set(values_of_unit[r]);
      PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) sum[r][u] = fma(by, weight[u], sum[r][u]);
    }
  }
  PYMICROGPT_UNROLL for (int r = 0; r < R; ++r)
    PYMICROGPT_UNROLL for (int p = 0; p < P; ++p) end_sum(then, row + r, p, sixteen_of(sum[r], p));
}
template <class Then>
void sum_narrow(const Mlp& mlp, Panels values, const Matrix& w, int row_panel, int rows,
                const Then& then) {
  with_up_to<2>(panels_of(w.lanes()), [&](auto P) {
    constexpr int fit = Vec::accumulators / (P.value * kVectors);
    constexpr int most = fit < kPanel ? fit : kPanel;
    split_evenly(rows, most, [&](int first, int some) {
      with_up_to<most>(some, [&](auto R) {
        narrow_sums<R.value, P.value>(mlp, values, w.p, row_panel * kPanel + first, then);
      });
    });
  });
}

// dh[u] = dx2 . fc2[u], and 0 where h is 0, over the list, with N rows in the lanes
template <int N, int P>
void narrow_gradients(const Mlp& shared, Panels dx2, int row_panel) {
  using Rows = VecUpTo<N>;
  constexpr int U = units_of_tile<N>();
  const Mlp mlp = shared;  // a copy, which no store can alias
  pair_rows<Rows::Vector::lanes>(mlp, dx2, row_panel, N);
  const float *x = mlp.mt.at(row_panel, 0), *h = mlp.h.at(row_panel, 0);
  float* dh = mlp.dh.at(row_panel, 0);
  const int32_t *entry = mlp.list_of(row_panel), *end = entry + mlp.count[row_panel * kPanel];
  for (; entry < end; entry += U) {
    const float* weights[U];
    PYMICROGPT_UNROLL for (int u = 0; u < U; ++u) weights[u] = mlp.fc2.p + entry[u] * P;
    pair_tile<N, U, P == 1>(
        x, mlp.fc2.outs, [&](int u) PYMICROGPT_INLINED { return weights[u]; },
        [](int) {},
        [&](int u, const auto& sums) PYMICROGPT_INLINED {
          where_greater(Rows::load(h + entry[u]), Rows::set(0.0f), sums).store(dh + entry[u]);
        });
  }
}

// The two rows of U units: dfc2[u] = sum over n of h[u][n] dx2[n], dfc1[u] = sum over n of
// dh[u][n] m[n], and Adam. Whether a weight is not finite.
template <int U, int P>
PYMICROGPT_INLINE bool narrow_step(const Mlp& mlp, Panels m, Panels dx2, int rows,
                                   const int32_t* entry, const Adam* adam) {
#define EACH_UNIT PYMICROGPT_UNROLL for (int u = 0; u < U; ++u)
#define EACH_VECTOR PYMICROGPT_UNROLL for (int v = 0; v < P * kVectors; ++v)
  Vec g1[U][P * kVectors], g2[U][P * kVectors];
  EACH_UNIT EACH_VECTOR g1[u][v] = g2[u][v] = Vec::set(0.0f);
  for (int p = 0; p * kPanel < rows; ++p) {
    const int64_t first = int64_t{p} * kPanel, some = rows - first < kPanel ? rows - first : kPanel;
    const float *h = mlp.h.at(p, 0), *dh = mlp.dh.at(p, 0), *end = h + some;
    const float *m_row = m.at(0, first * kPanel), *dx2_row = dx2.at(0, first * kPanel);
    for (; h != end; ++h, ++dh, m_row += kPanel, dx2_row += kPanel) {
      Vec x[P * kVectors], y[P * kVectors];
      EACH_VECTOR {
        const int lane = v % kVectors * Vec::lanes;
        x[v] = Vec::load(dx2_row + v / kVectors * dx2.stride + lane);
        y[v] = Vec::load(m_row + v / kVectors * m.stride + lane);
      }
      EACH_UNIT {
        const Vec by_h = Vec::set(h[entry[u]]), by_dh = Vec::set(dh[entry[u]]);
        EACH_VECTOR {
          g2[u][v] = fma(by_h, x[v], g2[u][v]);
          g1[u][v] = fma(by_dh, y[v], g1[u][v]);
        }
      }
    }
  }
  const auto at = [&](int u, int v) PYMICROGPT_INLINED {
    return int64_t{entry[u]} * P + v * Vec::lanes;
  };
  if (adam == nullptr) {
    EACH_UNIT EACH_VECTOR {
      g1[u][v].store(mlp.fc1.g + at(u, v));
      g2[u][v].store(mlp.fc2.g + at(u, v));
    }
    return false;
  }
  Steps step(*adam);
  EACH_UNIT EACH_VECTOR {
    step(mlp.fc1, at(u, v), g1[u][v], false);
    step(mlp.fc2, at(u, v), g2[u][v], true);
  }
  return step.broken();
#undef EACH_UNIT
#undef EACH_VECTOR
}

// A unit that is active nowhere stands still only where its rows are two panels: of one, to find
// out takes longer than its step, which is one over no rows.
template <int P>
void narrow_steps(Mlp& shared, Panels m, Panels dx2, int rows, Span units, const Adam* adam,
                  bool calm) {
  constexpr int fit = power_of_two_below(Vec::accumulators / (2 * kVectors * P));
  constexpr int U = fit < 4 ? fit : 4;
  const Mlp mlp = shared;  // a copy, which no store can alias
  const Split split(mlp, units, rows);
  bool broken = false;
  const auto step = [&](const int32_t* list, int count, int over) PYMICROGPT_INLINED {
    int i = 0;
    for (; i + U <= count; i += U) broken |= narrow_step<U, P>(mlp, m, dx2, over, list + i, adam);
    for (; i < count; ++i) broken |= narrow_step<1, P>(mlp, m, dx2, over, list + i, adam);
  };
  if (adam != nullptr && P > 1) {
    rest(mlp, split.others, split.rest, *adam, calm);
    for (int i = 0; i < split.actives; ++i)
      catch_up(mlp, split.active[i] / kPanel, adam->beta1, adam->beta2);
  } else {
    step(split.others, split.rest, 0);
  }
  step(split.active, split.actives, rows);
  shared.note(broken);
}

void narrow_weights(Mlp& mlp, Panels m, Panels dx2, int rows, Span units, const Adam* adam,
                    bool calm) {
  with_up_to<2>(panels_of(mlp.fc1.ins), [&](auto P) {
    narrow_steps<P.value>(mlp, m, dx2, rows, units, adam, calm);
  });
}

}  // namespace
}  // namespace microgpt
