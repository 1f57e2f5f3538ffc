// Every kernel of one ISA against plain loops. Compiled once for each ISA, with its flags:
//   PYMICROGPT_ISA_SOURCE  the file in cpp/isa that it includes, and so sees all of
//   PYMICROGPT_TABLE       as for that file
//
// Inputs beyond the active rows, and all outputs, are poisoned with NaN. Kernels that take rows by
// fours may write the rest of the last four; nothing else outside the output may be.
#include PYMICROGPT_ISA_SOURCE

#include <algorithm>
#include <array>

#include "check.h"

namespace microgpt {
namespace {

constexpr int kSizes[] = {1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 64, 80};
constexpr int kSumsInParts = 300;  // terms: a sum of so many is done in three parts
constexpr int kMostRows = 33;

int next_four(int n) { return (n + 3) / 4 * 4; }

// The work of several threads, one after the other.
template <class F>
void shared_out(int threads, F work) {
  for (int rank = 0; rank < threads; ++rank) work(Share{rank, threads});
}

// The rows at once, or as threads share them, or level after level as generation grows them.
// Returns where the rows end that may be written: those of a span, in fours.
template <class F>
int each_span(int rows, F work) {
  int end = 0;
  const auto one = [&](Span span) {
    work(span);
    const int last = span.first + next_four(span.last - span.first);
    end = last > end ? last : end;
  };
  if (rows % 3 == 0) {
    one({0, rows});
  } else if (rows % 3 == 1) {
    shared_out(3, [&](const Share& share) { one(share.of(rows)); });
  } else {
    one({0, rows / 2});
    one({rows / 2, rows});
  }
  return end;
}

// ---- Vectors ----------------------------------------------------------------------------------

// What Vec and Vec16 have in common, on whole numbers: their sums are exact in any order.
template <class T, int width>
void test_lanes() {
  Random random;
  for (int trial = 0; trial < 100; ++trial) {
    float a[width], b[width], c[width], d[width];
    for (float* x : {a, b, c, d})
      for (int i = 0; i < width; ++i) x[i] = static_cast<float>(random.below(2001) - 1000);
    const T x = T::load(a), y = T::load(b), z = T::load(c), w = T::load(d);
    const float* const all[] = {a, b, c, d};
    const auto expect = [](const char* what, const T& got, auto want) {
      float lane[width];
      got.store(lane);
      for (int i = 0; i < width; ++i) check(same_bits(lane[i], want(i)), what);
    };
    const auto in_quad = [](const float* v, int i) { return v + i / 4 * 4; };
    const auto sum4 = [](const float* v) { return v[0] + v[1] + v[2] + v[3]; };
    const auto max4_of = [](const float* v) {
      return std::fmax(std::fmax(v[0], v[1]), std::fmax(v[2], v[3]));
    };

    expect("load", x, [&](int i) { return a[i]; });
    expect("set", T::set(a[0]), [&](int) { return a[0]; });
    expect("load_quad", T::load_quad(a), [&](int i) { return a[i % 4]; });
    expect("+", x + y, [&](int i) { return a[i] + b[i]; });
    expect("-", x - y, [&](int i) { return a[i] - b[i]; });
    expect("*", x * y, [&](int i) { return a[i] * b[i]; });
    expect("/", x / y, [&](int i) { return a[i] / b[i]; });
    expect("fma", fma(x / y, y, z), [&](int i) { return std::fma(a[i] / b[i], b[i], c[i]); });
    expect("max", max(x, y), [&](int i) { return a[i] > b[i] ? a[i] : b[i]; });
    expect("sqrt", sqrt(x * x + y), [&](int i) { return std::sqrt(a[i] * a[i] + b[i]); });
    expect("where_greater", where_greater(x, y, z), [&](int i) { return a[i] > b[i] ? c[i] : 0; });
    expect("quad<0>", quad<0>(x), [&](int i) { return in_quad(a, i)[0]; });
    expect("quad<1>", quad<1>(x), [&](int i) { return in_quad(a, i)[1]; });
    expect("quad<2>", quad<2>(x), [&](int i) { return in_quad(a, i)[2]; });
    expect("quad<3>", quad<3>(x), [&](int i) { return in_quad(a, i)[3]; });
    expect("quad_sum", quad_sum(x), [&](int i) { return sum4(in_quad(a, i)); });
    expect("quad_max", quad_max(x), [&](int i) { return max4_of(in_quad(a, i)); });
    expect("reduce4", reduce4(x, y, z, w), [&](int i) { return sum4(in_quad(all[i % 4], i)); });
    expect("max4", max4(x, y, z, w), [&](int i) { return max4_of(in_quad(all[i % 4], i)); });
    expect("across_quads", across_quads(x), [&](int i) {
      float sum = 0;
      for (int j = i % 4; j < width; j += 4) sum += a[j];
      return sum;
    });
    expect("max_across_quads", max_across_quads(x), [&](int i) {
      float most = a[i % 4];
      for (int j = i % 4; j < width; j += 4) most = std::fmax(most, a[j]);
      return most;
    });

    Block first(4);
    x.store_quad(first.data());
    for (int i = 0; i < 4; ++i) check(same_bits(first[i], a[i]), "store_quad");
    check(first.intact(), "store_quad stores four");
  }
}

void test_pairs(Random& random) {
  constexpr int width = Vec::lanes;
  float x[width], y[width], low[width], high[width], sums[width], pair[width];
  for (int i = 0; i < width; ++i) {
    x[i] = static_cast<float>(random.below(1000));
    y[i] = static_cast<float>(random.below(1000));
  }
  for (int i = 0; i < width; ++i) {
    const float* from_lane = i % 2 == 0 ? x : y;
    low[i] = from_lane[i / 4 * 4 + i % 4 / 2];
    high[i] = from_lane[i / 4 * 4 + 2 + i % 4 / 2];
  }
  pair_sums(Vec::load(low), Vec::load(high)).store(sums);
  Vec::load_pair(x).store(pair);
  for (int i = 0; i < width; ++i) {
    CHECK(sums[i] == x[i] + y[i]);
    CHECK(pair[i] == x[i % 2]);
  }
  float got[width];
  interleave_low(Vec::load(x), Vec::load(y)).store(got);
  for (int i = 0; i < width; ++i) CHECK(got[i] == low[i]);
  interleave_high(Vec::load(x), Vec::load(y)).store(got);
  for (int i = 0; i < width; ++i) CHECK(got[i] == high[i]);
  pairs_low(Vec::load(x), Vec::load(y)).store(got);
  for (int i = 0; i < width; ++i) CHECK(got[i] == (i % 4 < 2 ? x[i] : y[i - 2]));
  pairs_high(Vec::load(x), Vec::load(y)).store(got);
  for (int i = 0; i < width; ++i) CHECK(got[i] == (i % 4 < 2 ? x[i + 2] : y[i]));

  constexpr int some = VecUpTo<8>::Vector::lanes;
  float pairs[16], rows[8];
  for (int i = 0; i < 16; ++i) {
    const float* half = i / some % 2 == 0 ? low : high;
    pairs[i] = half[i % some];
  }
  sums_of_pairs<8>(PairSums<8>::load(pairs)).store(rows);
  for (int n = 0; n < 8; ++n) CHECK(rows[n] == x[n % some] + y[n % some]);
}

void test_vector() {
  constexpr int width = Vec::lanes;
  Random random;
  const float inf = INFINITY, nan = NAN;
  // Pairs that comparisons could get wrong.
  const float first[] = {1, 2, 2, -0.0f, 0, inf, -inf, inf, nan, 1, nan, -1};
  const float second[] = {2, 1, 2, 0, -0.0f, 1, 1, inf, 1, nan, nan, -2};
  for (int i = 0; i < 12; ++i) {
    at_case("%g, %g", first[i], second[i]);
    const Vec a = Vec::set(first[i]), b = Vec::set(second[i]), c = Vec::set(3);
    float greater[width];
    where_greater(a, b, c).store(greater);
    for (float g : greater) CHECK(same_bits(g, first[i] > second[i] ? 3.0f : 0.0f));
    for (int lane = 0; lane < width; ++lane) {
      float other[width];
      for (int j = 0; j < width; ++j) other[j] = j == lane ? second[i] : 4.0f;
      const unsigned want = first[i] != second[i] ? 1u << lane : 0;
      float same[width];
      for (int j = 0; j < width; ++j) same[j] = j == lane ? first[i] : 4.0f;
      CHECK(unequal(Vec::load(same), Vec::load(other)) == want);
    }
  }

  for (int trial = 0; trial < 20000; ++trial) {
    const float x = std::ldexp(random.uniform(1, 2), random.below(60) - 30);
    at_case("1 / %a", x);
    float inverse[width];
    reciprocal(Vec::set(x)).store(inverse);
    for (float r : inverse) near(r, {1.0 / x, kReciprocalError / x}, "reciprocal");
  }
  report("reciprocal");

  for (int trial = 0; trial < 20000; ++trial) {
    const float x = std::ldexp(random.uniform(1, 2), random.below(220) - 100);
    at_case("the other root of %a", x);
    float root[width];
    other_sqrt(Vec::set(x)).store(root);
    const double want = std::sqrt(double{x});
    for (float r : root) near(r, {want, kRootError * want}, "root");
  }
  for (const float x : {0.0f, 0x1p-126f, 0x1.8p-113f}) {
    at_case("the other root of %a", x);
    float root[width];
    other_sqrt(Vec::set(x)).store(root);
    for (float r : root) CHECK(std::abs(r - std::sqrt(x)) <= 0x1p-14f * std::sqrt(x));
  }
  report("root");

  for (int n = -127; n <= 127; ++n) {
    at_case("%d", n);
    float power[width];
    last_as_exponent(Vec::set(0x1.8p23f + 127.0f + static_cast<float>(n))).store(power);
    for (float p : power) CHECK(p == (n == -127 ? 0.0f : std::ldexp(1.0f, n)));
  }

  // Positive normal numbers, and those around the borders of f's range.
  for (int trial = 0; trial < 20000; ++trial) {
    float x[width], e[width], f[width];
    for (float& at : x) at = std::ldexp(random.uniform(1, 2), random.below(254) - 126);
    x[0] = std::ldexp(1.5f, random.below(254) - 126);
    x[1] = std::nextafter(x[0], 0.0f);
    Vec ev, fv;
    split(Vec::load(x), ev, fv);
    ev.store(e);
    fv.store(f);
    for (int i = 0; i < width; ++i) {
      at_case("%a", x[i]);
      CHECK(f[i] >= 0.75f && f[i] < 1.5f);
      CHECK(std::ldexp(f[i], static_cast<int>(e[i])) == x[i]);
    }
  }

  float product[width];
  const Vec tiny = Vec::set(std::ldexp(random.uniform(1, 2), -100)) * Vec::set(0x1p-40f);
  flush_below(kLeast, tiny).store(product);
  for (float p : product) CHECK(p == 0);  // flushed, by the CPU while FlushDenormals lives
  for (const float stays : {1e-30f, -1e-30f, 1.0f, inf, nan}) {
    at_case("%g", stays);
    flush_below(kLeast, Vec::set(stays)).store(product);
    for (float p : product) CHECK(same_bits(p, stays));
  }

  Vec quads[width / 4];
  float from_quads[width / 4][width], sums[width];
  for (int q = 0; q < width / 4; ++q) {
    for (float& x : from_quads[q]) x = static_cast<float>(random.below(1000));
    quads[q] = Vec::load(from_quads[q]);
  }
  sum_quads(quads).store(sums);
  for (int i = 0; i < width; ++i) {
    float sum = 0;
    for (int j = i % 4; j < width; j += 4) sum += from_quads[i / 4][j];
    CHECK(sums[i] == sum);
  }

  test_pairs(random);

  // Bits of sixteen rows by unit, by row and as lists.
  uint16_t by_unit[64];
  uint64_t by_row[16 * 2] = {};
  int32_t list[64 + 16];
  for (auto& word : by_unit) word = static_cast<uint16_t>(random.below(1 << 16));
  transpose_bits(by_unit, by_row, 2);
  for (int r = 0; r < 16; ++r) {
    uint64_t word = 0;
    for (int i = 0; i < 64; ++i) word |= (uint64_t{by_unit[i]} >> r & 1) << i;
    CHECK(by_row[2 * r] == word && by_row[2 * r + 1] == 0);
    uint16_t in_row[64];
    for (int i = 0; i < 64; ++i) in_row[i] = static_cast<uint16_t>(by_unit[i] & 1 << r);
    CHECK(set_bits(in_row, 0xffff) == word);
    CHECK(set_bits(by_unit, static_cast<uint16_t>(1 << r)) == word);
    for (const uint64_t some : {word, word & word >> 7 & word << 9, uint64_t{0}, ~uint64_t{0}}) {
      int entries = 0;
      int32_t* const end = list_bits(list, some, 1024);
      for (int i = 0; i < 64; ++i)
        if (some >> i & 1) CHECK(list[entries++] == 1024 + 16 * i);
      CHECK(end == list + entries);
    }
  }

  // Element j of argument i goes to [16 j + i]; the other twelve of each sixteen stay.
  Block to(16 * width);
  float from[4][width];
  for (auto& row : from)
    for (float& x : row) x = random.uniform(-1, 1);
  store_transposed(to.data() + 8, Vec::load(from[0]), Vec::load(from[1]), Vec::load(from[2]),
                   Vec::load(from[3]));
  for (int j = 0; j < width; ++j)
    for (int i = 0; i < 16; ++i)
      check(
          i >= 8 && i < 12 ? same_bits(to[16 * j + i], from[i - 8][j]) : is_poison(to[16 * j + i]),
          "store_transposed");
  CHECK(to.intact());

  // Quad i of each argument, side by side, goes to [20 i].
  Block apart(20 * width / 4);
  Vec four[4];
  for (int i = 0; i < 4; ++i) four[i] = Vec::load(from[i]);
  store_quads(apart.data(), 20, four);
  for (int q = 0; q < width / 4; ++q)
    for (int i = 0; i < 20; ++i)
      check(i < 16 ? same_bits(apart[20 * q + i], from[i / 4][4 * q + i % 4])
                   : is_poison(apart[20 * q + i]),
            "store_quads");
  CHECK(apart.intact());
}

// ---- Shares of threads --------------------------------------------------------------------------

void test_share() {
  for (int size = 1; size <= 7; ++size)
    for (int total = 1; total <= 70; ++total) {
      at_case("%d rows for %d threads", total, size);
      int last = 0;
      for (int rank = 0; rank < size; ++rank) {
        const Span span = Share{rank, size}.of(total);
        CHECK(span.first == last && span.last >= span.first);
        // Kernels write rows up to the end of a panel: those must be nobody else's.
        CHECK(span.first == span.last || span.first % kPanel == 0);
        last = span.last;
      }
      CHECK(last == total);

      std::vector<int> taken(total);
      for (int rank = 0; rank < size; ++rank) {
        Share share{rank, size};
        for (int& count : taken) count += share.mine();
      }
      for (int count : taken) CHECK(count == 1);
    }
}

// ---- exp and log ------------------------------------------------------------------------------

// Calls compare(x, f(x)) for every `step`-th float from first to last, which have one sign.
template <class F, class G>
void sweep(float first, float last, uint32_t step, F f, G compare) {
  uint32_t bits, end;
  std::memcpy(&bits, &first, sizeof bits);
  std::memcpy(&end, &last, sizeof end);
  while (bits < end) {
    float x[Vec::lanes], y[Vec::lanes];
    for (float& at : x) {
      std::memcpy(&at, &bits, sizeof bits);
      bits = end - bits > step ? bits + step : end;
    }
    f(Vec::load(x)).store(y);
    for (int i = 0; i < Vec::lanes; ++i) compare(x[i], y[i]);
  }
}

template <class F>
void expect_all(Vec got, F holds, const char* what) {
  float lane[Vec::lanes];
  got.store(lane);
  for (float x : lane) check(holds(x), what);
}

void test_exp_log() {
  const auto zero = [](float y) { return same_bits(y, 0.0f); };
  const auto one = [](float y) { return y == 1; };
  const auto nan = [](float y) { return y != y; };

  const auto exp_of = [](Vec x) { return exp(x); };
  const auto near_exp = [](float x, float y) { near(y, exp(Approx(x)), "exp"); };
  sweep(0.0f, 88.0f, 997, exp_of, near_exp);
  sweep(-0.0f, -87.3f, 997, exp_of, near_exp);
  expect_all(exp(Vec::set(0)), one, "exp(0) == 1");
  expect_all(exp(Vec::set(NAN)), nan, "exp(NaN) is NaN");
  for (float x : {-88.0f, -88.1f, -89.0f, -100.0f, -1e30f, -INFINITY}) {
    at_case("%g", x);
    expect_all(exp(Vec::set(x)), zero, "exp(x) == 0 for x <= -88");
  }
  report("exp");

  at_case("log");
  const auto log_of = [](Vec x) { return log(x); };
  const auto near_log = [](float x, float y) { near(y, log(Approx(x)), "log"); };
  using Limits = std::numeric_limits<float>;
  sweep(Limits::min(), Limits::max(), 997, log_of, near_log);
  sweep(0.5f, 2.0f, 17, log_of, near_log);
  expect_all(log(Vec::set(1)), [](float y) { return y == 0; }, "log(1) == 0");
  expect_all(log(Vec::set(NAN)), nan, "log(NaN) is NaN");
  report("log");
}

// ---- Activations ------------------------------------------------------------------------------

// (features, rows) in panels, with room for some more rows at least, poisoned.
class Activations {
 public:
  Activations(int features, int rows, int room = 3)
      : features_(features), rows_(rows), capacity_(panels_of(rows + room) * kPanel),
        block_(int64_t{panels_of(features)} * kPanel * capacity_) {}
  Activations(int features, int rows, Random& random, float deviation = 1)
      : Activations(features, rows) {
    for (int n = 0; n < rows; ++n)
      for (int i = 0; i < lanes(); ++i) at(i, n) = i < features ? random.normal(deviation) : 0;
    fill_rest(input_poison());
  }
  // What the rows beyond hold, and will be expected to hold.
  void fill_rest(float x) {
    rest_ = x;
    for (int n = rows_; n < capacity_; ++n) fill_row(n, x);
  }
  void fill_row(int row, float x) {
    for (int i = 0; i < lanes(); ++i) at(i, row) = x;
  }

  operator Panels() { return {block_.data(), int64_t{capacity_} * kPanel}; }
  int panels() const { return panels_of(features_); }
  int lanes() const { return panels() * kPanel; }
  float& at(int feature, int row) {
    return block_[(int64_t{feature / kPanel} * capacity_ + row) * kPanel + feature % kPanel];
  }

  // Every row holds want(row, feature), and zero in the padding; rows from `slack` on, and the
  // guards, are as they were.
  template <class F>
  void expect(const char* what, F want, int slack) {
    for (int n = 0; n < capacity_; ++n)
      for (int i = 0; i < lanes(); ++i) {
        if (n < rows_) near(at(i, n), i < features_ ? want(n, i) : Approx(0), what);
        else if (n >= slack) check(same_bits(at(i, n), rest_), "rows beyond are left alone");
      }
    check(block_.intact(), "memory around is left alone");
  }
  template <class F>
  void expect(const char* what, F want) {
    expect(what, want, rows_);
  }

 private:
  int features_, rows_, capacity_;
  float rest_ = poison();
  Block block_;
};

// (rows,) of one number each, with the same room and the same checks.
struct Scalars {
  int rows;
  Block block;

  explicit Scalars(int n) : rows(n), block(panels_of(n + 3) * kPanel) {}
  Scalars(int n, Random& random, float low, float high) : Scalars(n) {
    for (int i = 0; i < n; ++i) block[i] = random.uniform(low, high);
  }
  operator float*() { return block.data(); }
  template <class F>
  void expect(const char* what, F want, int slack) {
    for (int n = 0; n < rows; ++n) near(block[n], want(n), what);
    check(block.intact_beyond(slack), "scalars beyond are left alone");
  }
};

// ---- product ----------------------------------------------------------------------------------

struct ProductCase {
  static constexpr int panels = 9, outs = panels * kPanel, other_rows = 40;
  int k;
  Activations x, other;
  Block w;
  int32_t map[kMostRows];
  std::vector<Approx> sums;  // (kMostRows, outs)

  ProductCase(int ins, Random& random)
      : k(ins), x(k, kMostRows, random), other(outs, other_rows, random),
        w(int64_t{panels} * panels_of(k) * kPanel * kPanel) {
    for (int n = 0; n < other_rows; ++n) {  // what the mask must tell from the rest
      other.at(n, n) = 0;
      other.at(n + 1, n) = -0.0f;
    }
    for (int32_t& offset : map) offset = random.below(other_rows) * kPanel;
    for (int64_t i = 0; i < w.size(); ++i) w[i] = 0;
    for (int o = 0; o < outs; ++o)
      for (int i = 0; i < k; ++i) w[Matrix::index(o, i, k)] = random.normal(1);
    for (int n = 0; n < kMostRows; ++n)
      for (int o = 0; o < outs; ++o) {
        Total sum;
        for (int i = 0; i < k; ++i) sum.add(Approx(x.at(i, n)) * Approx(w[Matrix::index(o, i, k)]));
        sums.push_back(sum);
      }
  }

  // A product from `from` with the epilogue that make(y) gives.
  template <class X, class Make, class F>
  void expect(const char* what, const X& from, int rows, int p, Make make, F want) {
    at_case("k %d, rows %d, panels %d", k, rows, p);
    Activations y(p * kPanel, rows);
    each_span(rows, [&](Span span) {
      product(from, k, Panels{w.data(), int64_t{panels_of(k)} * kPanel * kPanel}, p, span,
              make(Panels(y)));
    });
    y.expect(what, [&](int n, int o) { return want(n, o, sums[n * outs + o]); });
    if (!Unit::there) return;
    Activations by_unit(p * kPanel, rows);
    each_span(rows, [&](Span span) {
      whole_product(from, k, Panels{w.data(), int64_t{panels_of(k)} * kPanel * kPanel}, p, span,
                    make(Panels(by_unit)));
    });
    by_unit.expect(what, [&](int n, int o) { return Approx(y.at(o, n)); });  // to the bit
  }
};

std::vector<int> sizes_and(int last) {
  std::vector<int> sizes(std::begin(kSizes), std::end(kSizes));
  sizes.push_back(last);
  return sizes;
}

void test_product() {
  Random random;
  for (const int k : sizes_and(kSumsInParts)) {
    ProductCase c(k, random);
    for (int rows = kMostRows; rows >= (k == kSumsInParts ? kMostRows - 1 : 1); --rows) {
      if (rows < kMostRows) c.x.fill_row(rows, input_poison());
      for (int p = 1; p <= ProductCase::panels; ++p) {
        const auto same = [](int, int, Approx y) { return y; };
        c.expect("product", Panels(c.x), rows, p, [](Panels y) { return Store{y}; }, same);
        c.expect(
            "product, relu", Panels(c.x), rows, p, [](Panels y) { return Relu{y}; },
            [](int, int, Approx y) { return relu(y); });
        c.expect(
            "product, residual", Panels(c.x), rows, p,
            [&](Panels y) { return Residual{y, c.other, c.map}; },
            [&](int n, int o, Approx y) { return y + Approx(c.other.at(o, c.map[n] / kPanel)); });
        c.expect(
            "product, mask", Panels(c.x), rows, p, [&](Panels y) { return Mask{y, c.other}; },
            [&](int n, int o, Approx y) { return c.other.at(o, n) > 0 ? y : Approx(0); });
        // The same operand row by row.
        const int64_t width = int64_t{panels_of(k)} * kPanel;
        Block strips(rows * width);
        for (int n = 0; n < rows; ++n)
          for (int i = 0; i < width; ++i) strips[n * width + i] = c.x.at(i, n);
        c.expect(
            "product of strips", Strips{strips.data(), width}, rows, p,
            [](Panels y) { return Store{y}; }, same);
      }
    }
  }
  report("product");
}

// ---- weight_gradient and Adam -----------------------------------------------------------------

const AdamStep kStep = {0.01, 0.85, 0.99, 1 - 0.85 * 0.85, 1 - 0.99 * 0.99, 1e-8};

// Adam on moments kept divided by 1 - beta1 and 1 - beta2.
struct Updated {
  Approx p, m, v;
  Updated(float p0, float m0, float v0, Approx g) {
    const auto constant = [](double x) { return Approx::rounded(x, 0); };
    m = constant(kStep.beta1) * Approx(m0) + g;
    v = constant(kStep.beta2) * Approx(v0) + g * g;
    const double rate = kStep.rate * (1 - kStep.beta1) / kStep.correction1;
    const double root = std::sqrt((1 - kStep.beta2) / kStep.correction2);
    p = Approx(p0) -
        m * reciprocal(constant(root / rate) * other_sqrt(v) + constant(kStep.eps / rate));
  }
};

// Whatever the rate and eps: a weight without gradient stays, nothing becomes NaN, and a rate that
// is nothing beside the weight leaves its bits.
void test_adam() {
  for (const double rate : {0.0, 1e-300, 1e-38, 1e-20, 1e-12, 0.01, 1e20, 3e38})
    for (const double eps : {1e-38, 1e-8, 1.0, 3e38})
      for (const float g : {0.0f, 1e-10f, 1.0f, -1e18f}) {
        at_case("rate %g, eps %g, gradient %g", rate, eps, static_cast<double>(g));
        const Adam adam(
            {rate, kStep.beta1, kStep.beta2, kStep.correction1, kStep.correction2, eps});
        for (const bool other : {false, true}) {
          alignas(64) float m[16] = {}, v[16] = {};
          const Vec p = adam.update(Vec::set(0.5f), Vec::set(g), m, v, other);
          if (g == 0.0f || rate <= 1e-12)
            expect_all(p, [](float y) { return y == 0.5f; }, "the weight stays");
          else expect_all(p, [](float y) { return !std::isnan(y); }, "the weight is a number");
        }
      }
  report("adam");
}

void test_weight_gradient() {
  Random random;
  const int features[] = {1, 4, 16, 20, 33, 64, 144};
  for (const int outs : features)
    for (const int ins : features)
      for (const int n : sizes_and(kSumsInParts)) {
        if (int64_t{outs} * ins * n > 300000) continue;
        Activations dy(outs, n, random), x(ins, n, random);
        std::vector<Approx> g(static_cast<size_t>(outs) * ins);
        for (int o = 0; o < outs; ++o)
          for (int i = 0; i < ins; ++i) {
            Total sum;
            for (int r = 0; r < n; ++r) sum.add(Approx(dy.at(o, r)) * Approx(x.at(i, r)));
            g[static_cast<size_t>(o) * ins + i] = sum;
          }
        for (const bool outs_in_lanes : {false, true})
          for (const bool with_adam : {false, true}) {
            at_case("outs %d%s, ins %d, rows %d%s", outs, outs_in_lanes ? " in lanes" : "", ins, n,
                    with_adam ? ", Adam" : "");
            Matrix w{};
            w.outs = outs;
            w.ins = ins;
            w.outs_in_lanes = outs_in_lanes;
            const bool transposed = (outs + ins + n) % 3 != 0;  // is there a second copy?
            Block p(w.size()), q(w.size()), m(w.size()), v(w.size()), gradient(w.size());
            for (int64_t i = 0; i < w.size(); ++i) p[i] = q[i] = m[i] = v[i] = 0;
            std::vector<float> before(static_cast<size_t>(outs) * ins * 3);
            for (int o = 0, j = 0; o < outs; ++o)
              for (int i = 0; i < ins; ++i, j += 3) {
                const int64_t at = w.at(o, i);
                p[at] = q[w.transposed_at(o, i)] = before[j] = random.normal(0.1f);
                m[at] = before[j + 1] = random.normal(1);
                v[at] = before[j + 2] = (o + i) % 7 ? random.uniform(0.1f, 4) : 0;
              }
            w.p = p.data();
            w.q = transposed ? q.data() : nullptr;
            w.m = m.data();
            w.v = v.data();
            w.g = gradient.data();
            const Adam adam(kStep);
            shared_out(1 + n % 3, [&](Share share) {
              weight_gradient(dy, x, n, w, with_adam ? &adam : nullptr, share);
            });

            int64_t padding = 0;
            for (int64_t i = 0; i < w.size(); ++i) {
              if (with_adam) padding += p[i] == 0 && m[i] == 0 && v[i] == 0;
              if (!with_adam) padding += gradient[i] == 0 || is_poison(gradient[i]);
            }
            CHECK(padding >= w.size() - int64_t{outs} * ins);
            for (int o = 0, j = 0; o < outs; ++o)
              for (int i = 0; i < ins; ++i, j += 3) {
                const int64_t at = w.at(o, i);
                const Approx want = g[static_cast<size_t>(o) * ins + i];
                if (with_adam) {
                  const Updated u(before[j], before[j + 1], before[j + 2], want);
                  near(p[at], u.p, "Adam: p");
                  near(m[at], u.m, "Adam: m");
                  near(v[at], u.v, "Adam: v");
                } else {
                  near(gradient[at], want, "weight_gradient");
                  check(p[at] == before[j] && m[at] == before[j + 1] && v[at] == before[j + 2],
                        "without Adam p, m and v stay");
                }
                const float copy = q[w.transposed_at(o, i)];
                check(same_bits(copy, transposed ? p[at] : before[j]), "q is p transposed");
                p[at] = q[w.transposed_at(o, i)] = 0;
              }
            int64_t left = 0;
            for (int64_t i = 0; i < w.size(); ++i) left += p[i] != 0 || q[i] != 0;
            check(left == 0, "padding of p and q stays zero");
            check(p.intact() && q.intact() && m.intact() && v.intact() &&
                      gradient.intact_beyond(with_adam && !Unit::there ? 0 : w.size()),
                  "memory around is left alone");
          }
      }
  report("weight_gradient");
}

// ---- forward and input_gradient, with and without a second copy -------------------------------

void test_directions() {
  Random random;
  const int features[] = {1, 4, 16, 20, 33, 64, 144};
  for (const int outs : features)
    for (const int ins : features)
      for (const int rows : {1, 2, 5, 7, 13}) {
        Matrix w{};
        w.outs = outs;
        w.ins = ins;
        Block p(w.size()), q(w.size());
        Activations x(ins, rows, random), dy(outs, rows, random);
        std::vector<float> values(static_cast<size_t>(outs) * ins);
        for (float& value : values) value = random.normal(1);
        for (const bool outs_in_lanes : {false, true})
          for (const bool transposed : {Vec::compact, true}) {
            at_case("outs %d%s, ins %d, rows %d%s", outs, outs_in_lanes ? " in lanes" : "", ins,
                    rows, transposed ? ", transposed" : "");
            w.outs_in_lanes = outs_in_lanes;
            for (int64_t i = 0; i < w.size(); ++i) p[i] = q[i] = 0;
            for (int o = 0; o < outs; ++o)
              for (int i = 0; i < ins; ++i)
                p[w.at(o, i)] = q[w.transposed_at(o, i)] = values[o * ins + i];
            w.p = p.data();
            w.q = transposed ? q.data() : nullptr;
            Activations y(outs, rows), dx(ins, rows);
            each_span(rows, [&](Span span) {
              forward(w, x, span, Store{y});
              input_gradient(w, dy, span, Store{dx});
            });
            y.expect("forward", [&](int n, int o) {
              Total sum;
              for (int i = 0; i < ins; ++i)
                sum.add(Approx(x.at(i, n)) * Approx(values[o * ins + i]));
              return Approx(sum);
            });
            dx.expect("input_gradient", [&](int n, int i) {
              Total sum;
              for (int o = 0; o < outs; ++o)
                sum.add(Approx(dy.at(o, n)) * Approx(values[o * ins + i]));
              return Approx(sum);
            });
          }
      }
  report("directions");
}

// ---- Active hidden units ----------------------------------------------------------------------

void test_find_active() {
  Random random;
  for (const int units : {20, 64, 80, 256, 1000})
    for (const int percent : {0, 1, 10, 50, 100}) {
      at_case("%d units, %d %% active", units, percent);
      const int padded = (units + 63) / 64 * 64, panels = 3;
      std::vector<uint16_t> active(static_cast<size_t>(padded) * panels);
      std::vector<uint64_t> bits(static_cast<size_t>(padded) / 64 * panels * kPanel);
      std::vector<int32_t> list(panels * (kPanel * padded + 4)), begin(panels * kPanel),
          count(panels * kPanel);
      Mlp m{};
      m.units = units;
      m.mask_units = padded;
      m.active = active.data();
      m.bits = bits.data();
      m.list = list.data();
      m.begin = begin.data();
      m.count = count.data();
      const int rows = panels * kPanel - 3;
      std::vector<std::vector<int32_t>> of_four((rows + 3) / 4);
      std::vector<uint64_t> of_unit(units);
      for (int u = 0; u < units; ++u)
        for (int n = 0; n < rows; ++n)
          if (random.below(100) < percent) {
            active[n / kPanel * padded + u] |= 1 << n % kPanel;
            of_unit[u] |= uint64_t{1} << n;
            std::vector<int32_t>& list_of = of_four[n / 4];
            if (list_of.empty() || list_of.back() != u * kPanel) list_of.push_back(u * kPanel);
          }
      for (int p = 0; p < panels; ++p) {
        find_bits(m, p);
        find_lists(m, p, p == panels - 1 ? kPanel - 3 : kPanel);
      }
      for (int n = 0; n < rows; n += 4) {
        const int32_t* first = m.list_of(n / kPanel) + begin[n];
        CHECK(std::vector<int32_t>(first, first + count[n]) == of_four[n / 4]);
      }
      for (int u = 0; u < units; ++u)
        for (int n = 0; n < rows; ++n)
          CHECK((m.units_of(n, u / 64) >> u % 64 & 1) == (of_unit[u] >> n & 1));
      for (int u = 0; u < units; ++u) CHECK(m.rows_of(u, 0, rows) == of_unit[u]);

      for (int first = 0; first < units; first += 48) {  // some of a 64
        const Span span{first, std::min({units, first + 48, first / 64 * 64 + 64})};
        const Split split(m, span, rows);
        std::vector<int32_t> actives, others;
        for (int u = span.first; u < span.last; ++u)
          (of_unit[u] != 0 ? actives : others).push_back(u * kPanel);
        CHECK(std::vector<int32_t>(split.active, split.active + split.actives) == actives);
        CHECK(std::vector<int32_t>(split.others, split.others + split.rest) == others);
      }

      for (int p = 0; p < panels; ++p) {
        std::vector<int32_t> of_panel;
        for (int u = 0; u < units; ++u)
          if (active[p * padded + u] != 0) of_panel.push_back(u * kPanel);
        find_active(m, p);
        const int found = count[p * kPanel];
        CHECK(std::vector<int32_t>(m.list_of(p), m.list_of(p) + found) == of_panel);
        for (int i = 0; i < 8 && found > 0; ++i) CHECK(m.list_of(p)[found + i] == of_panel.back());
      }
    }
}

// ---- Norms and embedding ----------------------------------------------------------------------

constexpr int kWidths[] = {1, 3, 4, 8, 15, 16, 20, 33, 64, 80};

// (mean x^2 + 1e-5)^-1/2 and then dx = r (dy - y mean(dy y)), of rows of C.
template <class X>
Approx inverse_norm(int C, X x) {
  Total squares;
  for (int i = 0; i < C; ++i) squares.add(x(i) * x(i));
  return Approx(1) / sqrt(Approx(squares) * Approx::rounded(1.0 / C, 0) + Approx::rounded(1e-5, 0));
}
template <class DY, class Y>
Approx norm_gradient(int C, int i, Approx r, DY dy, Y y) {
  Total dot;
  for (int j = 0; j < C; ++j) dot.add(dy(j) * y(j));
  return (dy(i) - y(i) * (Approx(dot) * Approx::rounded(1.0 / C, 0))) * r;
}

void test_norm() {
  Random random;
  for (const int C : kWidths)
    for (int rows = 1; rows <= kMostRows; ++rows) {
      at_case("n_embd %d, rows %d", C, rows);
      // Rows of all magnitudes: eps counts in the small ones.
      Activations x(C, rows, random), y(C, rows);
      for (int n = 0; n < rows; ++n)
        for (int i = 0; i < C; ++i) x.at(i, n) *= std::ldexp(1.0f, n % 20 - 12);
      Scalars r(rows);
      const int slack =
          each_span(rows, [&](Span span) { rms_forward(y, r, x, x.panels(), span, C); });
      std::vector<Approx> inverse;
      for (int n = 0; n < rows; ++n)
        inverse.push_back(inverse_norm(C, [&](int i) { return Approx(x.at(i, n)); }));
      r.expect("inverse norm", [&](int n) { return inverse[n]; }, slack);
      y.expect("rms_forward", [&](int n, int i) { return Approx(x.at(i, n)) * inverse[n]; }, slack);

      // dx over dy, with nothing that comes past; elsewhere, with something; and over that.
      Activations dy(C, rows, random), alone(C, rows), dx(C, rows), past(C, rows, random),
          over(C, rows);
      for (int n = 0; n < rows; ++n)
        for (int i = 0; i < dy.lanes(); ++i) {
          alone.at(i, n) = dy.at(i, n);
          over.at(i, n) = past.at(i, n);
        }
      alone.fill_rest(0.5f);  // what is computed in place from a NaN would be that NaN
      over.fill_rest(0.5f);
      shared_out(1 + rows % 3, [&](Share share) {
        const Span span = share.of(rows);
        rms_backward(alone, alone, y, r, x.panels(), span, C, Panels{});
        rms_backward(dx, dy, y, r, x.panels(), span, C, past);
        rms_backward(over, dy, y, r, x.panels(), span, C, over);
      });
      const auto want = [&](int n, int i) {
        return norm_gradient(
            C, i, Approx(r[n]), [&](int j) { return Approx(dy.at(j, n)); },
            [&](int j) { return Approx(y.at(j, n)); });
      };
      const auto with_past = [&](int n, int i) { return Approx(past.at(i, n)) + want(n, i); };
      alone.expect("rms_backward, in place", want, next_four(rows));
      dx.expect("rms_backward, past", with_past, next_four(rows));
      over.expect("rms_backward, past in place", with_past, next_four(rows));
    }
  report("norm");
}

// Rows of a batch as the model gets them.
struct TestPrefixes {
  Config config;
  Corpus corpus;
  Builder built;
  const Prefixes& prefixes;
  TestPrefixes(const Config& c, Random& random, int documents, int batch_size, bool share,
               int by_level = 1 << 30)
      : config(c), corpus(random_corpus(random, documents, c.vocab_size, c.block_size + 3)),
        built(c, batch_size, share, by_level),
        prefixes(built.build(corpus.batch(random.below(documents), batch_size))) {}
};

// However an instruction set builds them, prefixes are those of PrefixBuilder::build(), in its
// order.
void test_prefixes() {
  Random random;
  for (const int V : {2, 5, 27, 300})
    for (const int T : {1, 7, 15, 16, 17})
      for (const int size : {1, 3, 4, 15, 16, 17, 50})
        for (const int n_layer : {1, 2}) {
          const Config config{n_layer, 4, 1, T, V};
          const Corpus corpus = random_corpus(random, 60, V, T + 2);
          Builder one(config, size, true), other(config, size, true);
          for (int turn = 0; turn < 6; ++turn) {
            const int some = turn % 3 < 2 ? size : (size + 1) / 2;
            at_case("prefixes, vocab %d, T %d, batch %d of %d", V, T, some, size);
            const Batch batch = corpus.batch(random.below(60), some);
            build_prefixes(one.builder, batch);
            const Prefixes &found = one.builder.prefixes(), &want = other.build(batch);
            if (!CHECK(found.nodes == want.nodes && found.pairs == want.pairs &&
                       found.levels == want.levels && found.entries == want.entries))
              return;
            const auto same = [&](auto Prefixes::* values, int count, const char* what) {
              check(std::equal(found.*values, found.*values + count, want.*values), what);
            };
            same(&Prefixes::level_begin, want.levels + 1, "level_begin");
            same(&Prefixes::pair_of, want.nodes, "pair_of");
            same(&Prefixes::weight, want.nodes, "weight");
            same(&Prefixes::pair_token, want.pairs, "pair_token");
            same(&Prefixes::pair_position, want.pairs, "pair_position");
            same(&Prefixes::entry_node, want.entries, "entry_node");
            same(&Prefixes::entry_target, want.entries, "entry_target");
            same(&Prefixes::entry_weight, want.entries, "entry_weight");
            for (int t = 0; t < want.levels; ++t)
              for (int n = want.level_begin[t]; n < want.level_begin[t + 1]; ++n)
                for (int j = 0; j < (t + 4) / 4 * 4; ++j) {  // kernels read keys by four
                  const int64_t at = int64_t{n} * want.path_stride + j;
                  CHECK(found.pair_path[at] == want.pair_path[at]);
                  if (n_layer > 1) CHECK(found.node_path[at] == want.node_path[at]);
                }
          }
        }
  report("prefixes");
}

struct TestTable {
  Block p, m, v, g;
  Table table{};
  TestTable(int rows, int C, Random& random)
      : p(size(rows, C)), m(size(rows, C)), v(size(rows, C)), g(size(rows, C)) {
    table = {p.data(), m.data(), v.data(), g.data(), rows, panels_of(C) * kPanel};
    for (int r = 0; r < rows; ++r)
      for (int i = 0; i < table.width; ++i) {
        p[table.at(r, i)] = i < C ? random.normal(0.3f) : 0;
        m[table.at(r, i)] = i < C ? random.normal(1) : 0;
        v[table.at(r, i)] = i < C ? random.uniform(0, 1) : 0;
      }
  }
  static int64_t size(int rows, int C) { return int64_t{rows} * panels_of(C) * kPanel; }
  bool intact() { return p.intact() && m.intact() && v.intact() && g.intact(); }
};

// Gradients of the rows of both, summed over pairs, and where asked for what Adam makes of them.
void expect_tables(TestTable& t, int tokens, const Prefixes& prefixes, Activations& de, int C,
                   const Adam* adam) {
  const auto values = [&](int64_t i) { return std::array<float, 3>{t.p[i], t.m[i], t.v[i]}; };
  std::vector<std::array<float, 3>> before;
  std::vector<Total> g(t.g.size());
  for (int64_t i = 0; i < t.p.size(); ++i) before.push_back(values(i));
  for (int n = 0; n < prefixes.pairs; ++n)
    for (const int row : {prefixes.pair_token[n], tokens + prefixes.pair_position[n]})
      for (int i = 0; i < C; ++i) g[t.table.at(row, i)].add(Approx(de.at(i, n)));
  embed_backward(t.table, tokens, de, prefixes, de.panels(), adam);
  for (int64_t i = 0; i < t.p.size(); ++i) {
    near(t.g[i], g[i], "embed_backward: g");
    if (adam != nullptr) {
      const Updated u(before[i][0], before[i][1], before[i][2], g[i]);
      near(t.p[i], u.p, "embed_backward: p");
      near(t.m[i], u.m, "embed_backward: m");
      near(t.v[i], u.v, "embed_backward: v");
    } else {
      check(values(i) == before[i], "without Adam p, m and v stay");
    }
  }
  CHECK(t.intact());
}

void test_embedding() {
  Random random;
  const Adam adam(kStep);
  for (const int C : kWidths)
    for (const int T : {1, 4, 7})
      for (const bool share : {false, true})
        for (const int batch_size : {1, 2, 5, 9}) {
          at_case("n_embd %d, T %d, batch %d%s", C, T, batch_size, share ? ", sharing" : "");
          const Config config{1, C, 1, T, 6};
          const TestPrefixes built(config, random, 6, batch_size, share);
          const Prefixes& prefixes = built.prefixes;
          const int N = prefixes.pairs;
          TestTable both(config.vocab_size + T, C, random);
          const Table wte = both.table.part(0, config.vocab_size),
                      wpe = both.table.part(config.vocab_size, T);
          Activations x(C, N);
          Scalars r(N);
          const int slack = each_span(
              N, [&](Span span) { embed_forward(x, r, wte, wpe, prefixes, x.panels(), span, C); });
          const auto sum = [&](int n, int i) {
            return Approx(wte.p[wte.at(prefixes.pair_token[n], i)]) +
                   Approx(wpe.p[wpe.at(prefixes.pair_position[n], i)]);
          };
          std::vector<Approx> inverse;
          for (int n = 0; n < N; ++n)
            inverse.push_back(inverse_norm(C, [&](int i) { return sum(n, i); }));
          r.expect("inverse norm", [&](int n) { return inverse[n]; }, slack);
          x.expect("embed_forward", [&](int n, int i) { return sum(n, i) * inverse[n]; }, slack);

          Activations de(C, N, random);
          for (const Adam* update : {static_cast<const Adam*>(nullptr), &adam})
            expect_tables(both, config.vocab_size, prefixes, de, C, update);

          // What comes by node becomes a sum by pair.
          Activations by_node(C, prefixes.nodes, random), by_pair(C, N);
          std::vector<Total> want(static_cast<size_t>(N) * C);
          for (int n = 0; n < prefixes.nodes; ++n)
            for (int i = 0; i < C; ++i)
              want[prefixes.pair_of[n] / kPanel * C + i].add(Approx(by_node.at(i, n)));
          each_span(N,
                    [&](Span span) { sum_by_pair(by_pair, by_node, prefixes, x.panels(), span); });
          by_pair.expect("sum_by_pair", [&](int n, int i) { return Approx(want[n * C + i]); });
        }
  report("embedding");
}

// ---- Attention --------------------------------------------------------------------------------

// One layer's attention, by layer 0's maps (keys are pairs) or those of the layers above (nodes);
// of prefixes by document, that of tiles, which may read as many rows as a panel has beyond.
struct AttentionCase {
  Heads heads;
  const Prefixes& prefixes;
  bool by_pair;
  int keys, lanes;
  Activations qkv, dqkv, y, dy;
  Block p, ds;

  AttentionCase(const Config& c, const Prefixes& r, bool pairs, Random& random)
      : heads(c, r.documents > 0), prefixes(r), by_pair(pairs), keys(pairs ? r.pairs : r.nodes),
        lanes(heads.width()), qkv(3 * lanes, keys, kPanel), dqkv(3 * lanes, keys, kPanel),
        y(lanes, r.nodes, kPanel), dy(lanes, r.nodes, kPanel),
        p(int64_t{r.nodes} * heads.groups * r.path_stride / 4 * kPanel), ds(p.size()) {
    fill(qkv, 3, keys, c.n_embd, random);
    fill(dy, 1, prefixes.nodes, c.n_embd, random);
  }
  // Zeros, and random numbers where a head has a feature.
  void fill(Activations& x, int parts, int count, int C, Random& random) {
    x.fill_rest(input_poison());
    for (int n = 0; n < count; ++n)
      for (int part = 0; part < parts; ++part) {
        for (int i = 0; i < lanes; ++i) x.at(part * lanes + i, n) = 0;
        for (int o = 0; o < C; ++o) x.at(part * lanes + heads.at(o), n) = random.normal(1);
      }
  }
  Attention arguments() {
    return {heads,
            qkv,
            dqkv,
            y,
            dy,
            p.data(),
            ds.data(),
            prefixes.path_stride / 4,
            by_pair ? prefixes.pair_of : prefixes.self,
            by_pair ? prefixes.pair_path : prefixes.node_path,
            &prefixes};
  }
  // What a node attends to: so many rows, the last of them its own.
  int count(int node) const {
    const int32_t* begin = prefixes.documents > 0 ? prefixes.document_begin : prefixes.level_begin;
    int i = 0;  // its document or level
    while (begin[i + 1] <= node) ++i;
    return prefixes.documents > 0 ? node - begin[i] + 1 : i + 1;
  }
  int key(int node, int j) const {
    if (prefixes.documents > 0) return node - count(node) + 1 + j;
    const int32_t* path = by_pair ? prefixes.pair_path : prefixes.node_path;
    return path[int64_t{node} * prefixes.path_stride + j] / kPanel;
  }
  int own(int node) const { return by_pair ? prefixes.pair_of[node] / kPanel : node; }
};

// Whether `backward` gives the gradients that follow from what `forward` was given. kept: it has
// the probabilities from there; else it computes them from the logarithm of their sum.
void expect_attention(AttentionCase& a, const Config& c, bool kept, const char* forward,
                      const char* backward) {
  const int C = c.n_embd, D = c.head_dim(), nodes = a.prefixes.nodes;
  std::vector<Approx> out(static_cast<size_t>(nodes) * a.lanes);
  std::vector<Total> gradient(static_cast<size_t>(a.keys) * 3 * a.lanes);
  const Approx scale(1 / std::sqrt(static_cast<double>(D)), 2 * kUnit);
  for (int n = 0; n < nodes; ++n)
    for (int head = 0; head < C; head += D) {
      const int own = a.own(n), keys = a.count(n);
      // Feature d of this head in q, k or v of a row, and where its gradient goes.
      const auto lane = [&](int part, int d) { return part * a.lanes + a.heads.at(head + d); };
      const auto at = [&](int part, int row, int d) {
        return Approx(a.qkv.at(lane(part, d), row));
      };
      const auto sum_of = [&](int part, int row, int d) -> Total& {
        return gradient[static_cast<size_t>(row) * 3 * a.lanes + lane(part, d)];
      };
      const auto dout = [&](int d) { return Approx(a.dy.at(a.heads.at(head + d), n)); };
      std::vector<Approx> s, p, dp;
      double most = -INFINITY;
      for (int j = 0; j < keys; ++j) {
        Total score, g;
        for (int d = 0; d < D; ++d) {
          score.add(at(0, own, d) * at(1, a.key(n, j), d));
          g.add(dout(d) * at(2, a.key(n, j), d));
        }
        s.push_back(Approx(score) * scale);
        dp.push_back(g);
        most = std::fmax(most, s.back().value);
      }
      Total total, dot;
      for (const Approx& score : s) {
        p.push_back(exp(score - Approx(most)));
        total.add(p.back());
      }
      for (Approx& pj : p) pj = pj * (Approx(1) / Approx(total));
      for (int d = 0; d < D; ++d) {
        Total y;
        for (int j = 0; j < keys; ++j) y.add(p[j] * at(2, a.key(n, j), d));
        out[static_cast<size_t>(n) * a.lanes + a.heads.at(head + d)] = y;
      }
      const Approx lse = Approx(most) + log(Approx(total));
      for (int j = 0; j < keys; ++j) {
        if (!kept) p[j] = exp(s[j] - lse);
        dot.add(p[j] * dp[j]);
      }
      for (int j = 0; j < keys; ++j) {
        const Approx ds = p[j] * (dp[j] - Approx(dot)) * scale;
        const int row = a.key(n, j);
        for (int d = 0; d < D; ++d) {
          sum_of(0, own, d).add(ds * at(1, row, d));
          sum_of(1, row, d).add(ds * at(0, own, d));
          sum_of(2, row, d).add(p[j] * dout(d));
        }
      }
    }
  a.y.expect(forward, [&](int n, int i) { return out[static_cast<size_t>(n) * a.lanes + i]; });
  a.dqkv.expect(backward, [&](int n, int i) {
    return Approx(gradient[static_cast<size_t>(n) * 3 * a.lanes + i]);
  });
  check(a.p.intact() && a.ds.intact(), "memory around probabilities is left alone");
}

void test_attention_of(const Config& c, const Prefixes& prefixes, bool by_pair, Random& random) {
  AttentionCase a(c, prefixes, by_pair, random);
  const Attention arguments = a.arguments();
  each_span(prefixes.nodes, [&](Span span) { attention_forward(arguments, span); });
  const int threads = 1 + prefixes.nodes % 3;
  if (!one_pass(arguments, {0, threads}))
    each_span(prefixes.nodes, [&](Span span) { scores_backward(arguments, span); });
  shared_out(threads, [&](Share share) { attention_backward(arguments, a.keys, share); });
  expect_attention(a, c, true, "attention_forward", "attention_backward");
}

void test_attention() {
  Random random;
  for (const int H : {1, 2, 3, 4, 5, 8})
    for (const int D : {1, 3, 4, 5, 8, 16, 20, 32})
      for (const int T : {1, 3, 4, 5, 16, 24}) {
        // All features are at distinct lanes.
        const Config config{2, H * D, H, T, 4};
        const Heads heads(config);
        std::vector<int> taken(heads.width());
        for (int o = 0; o < H * D; ++o) ++taken[heads.at(o)];
        for (int count : taken) CHECK(count <= 1);

        for (const bool share : {false, true}) {
          const TestPrefixes built(config, random, 3, T > 5 ? 2 : 4, share);
          for (const bool by_pair : {false, true}) {
            at_case("H %d, D %d, T %d%s, keys by %s", H, D, T, share ? ", sharing" : "",
                    by_pair ? "pair" : "node");
            test_attention_of(config, built.prefixes, by_pair, random);
          }
        }
      }
  report("attention");
}

// Documents of all lengths up to the context, which need not be long for the kernel itself.
void test_tiled_attention() {
  Random random;
  for (const int H : {1, 2, 3})
    for (const int D : {12, 16, 20, 32})
      for (const int T : {1, 15, 16, 17, 63, 64, 65, 130}) {
        at_case("tiles, H %d, D %d, T %d", H, D, T);
        const Config config{1, H * D, H, T, 4};
        const TestPrefixes built(config, random, 4, 3, true, 0);
        const Prefixes& prefixes = built.prefixes;
        AttentionCase a(config, prefixes, false, random);
        const int64_t capacity = panels_of(prefixes.nodes + kPanel) * kPanel;
        Block scratch(TileScratch::floats(config)), lse(a.heads.groups * capacity);
        const TiledMemory memory{lse.data(), capacity, TileScratch(config, scratch.data())};
        const Attention arguments = a.arguments();
        each_span(prefixes.nodes,
                  [&](Span span) { tiled_attention_forward(arguments, memory, span); });
        shared_out(1 + prefixes.nodes % 3,
                   [&](Share share) { tiled_attention_backward(arguments, memory, share); });
        expect_attention(a, config, false, "tiled_attention_forward", "tiled_attention_backward");
        check(scratch.intact() && lse.intact(), "memory around tiles is left alone");
        for (int head = 0; head < a.heads.groups; ++head)
          for (int64_t n = prefixes.nodes; n < capacity; ++n)
            check(is_poison(lse[head * capacity + n]), "rows beyond have no sum");
      }
  report("tiled attention");
}

// ---- Loss -------------------------------------------------------------------------------------

struct Softmax {  // of one row of logits
  std::vector<Approx> p;
  Approx lse;
  Softmax(Activations& logits, int n, int V) {
    double most = -INFINITY;
    for (int i = 0; i < V; ++i) most = std::fmax(most, logits.at(i, n));
    Total total;
    for (int i = 0; i < V; ++i) {
      p.push_back(exp(Approx(logits.at(i, n)) - Approx(most)));
      total.add(p.back());
    }
    for (Approx& e : p) e = e / Approx(total);
    lse = Approx(most) + log(total);
  }
};

void test_loss() {
  Random random;
  const int vocabs[] = {2, 3, 15, 16, 17, 27, 32, 33, 100};
  for (const int V : vocabs)
    for (int rows = 1; rows <= kMostRows; ++rows) {
      at_case("softmax, vocab %d, rows %d", V, rows);
      const int slack = next_four(rows);
      // From flat to so steep that all but one of a row underflow.
      Activations logits(V, rows, random), before(V, rows);
      logits.fill_rest(0.5f);
      Scalars lse(rows), weight(rows, random, 0, 1);
      std::vector<Softmax> want;
      for (int n = 0; n < rows; ++n) {
        for (int i = 0; i < V; ++i)
          before.at(i, n) = logits.at(i, n) = logits.at(i, n) * std::ldexp(1.0f, n % 8 - 1) - 20;
        want.emplace_back(before, n, V);
      }
      shared_out(1 + rows % 3,
                 [&](Share share) { softmax_rows(logits, lse, weight, share.of(rows), V); });
      lse.expect("lse", [&](int n) { return want[n].lse; }, slack);
      logits.expect("softmax", [&](int n, int i) { return weight[n] * want[n].p[i]; }, slack);
    }

  for (const int V : vocabs)
    for (const int T : {1, 4, 9})
      for (const bool share_prefixes : {false, true}) {
        at_case("loss, vocab %d, T %d%s", V, T, share_prefixes ? ", sharing" : "");
        const Config config{1, 4, 1, T, V};
        const TestPrefixes built(config, random, 5, 7, share_prefixes);
        const Prefixes& prefixes = built.prefixes;
        Activations logits(V, prefixes.nodes, random);
        logits.fill_rest(0.5f);
        Scalars lse(prefixes.nodes), nll(prefixes.entries);
        std::vector<Softmax> softmax;
        std::vector<Total> dlogits(static_cast<size_t>(prefixes.nodes) * V);
        std::vector<Approx> want;
        Total loss;
        for (int n = 0; n < prefixes.nodes; ++n) {
          softmax.emplace_back(logits, n, V);
          for (int i = 0; i < V; ++i)
            dlogits[n * V + i].add(Approx(prefixes.weight[n]) * softmax[n].p[i]);
        }
        for (int i = 0; i < prefixes.entries; ++i) {
          const int n = prefixes.entry_node[i], target = prefixes.entry_target[i];
          const Approx weight(prefixes.entry_weight[i]);
          want.push_back(softmax[n].lse - Approx(logits.at(target, n)));
          loss.add(weight * want.back());
          dlogits[n * V + target].add(Approx(0) - weight);
        }
        shared_out(1 + prefixes.nodes % 3, [&](Share share) {
          cross_entropy(logits, lse, nll, prefixes, share.of(prefixes.nodes), V);
        });
        nll.expect("nll", [&](int i) { return want[i]; }, prefixes.entries);
        logits.expect(
            "dlogits", [&](int n, int i) { return Approx(dlogits[n * V + i]); },
            next_four(prefixes.nodes));
        near(static_cast<float>(total_loss(nll, prefixes)), loss, "loss");
      }
  report("loss");
}

// ---- Sampling -----------------------------------------------------------------------------------

void test_sampling() {
  Random random;
  for (const int V : {2, 3, 15, 16, 17, 27, 33, 100})
    for (int rows = 1; rows <= kMostRows; ++rows)
      for (const float temperature : {0.5f, 1.0f, 3.0f}) {
        at_case("sampling, vocab %d, rows %d, temperature %g", V, rows, temperature);
        Activations logits(V, rows, random), sums(V, rows);
        for (int n = 0; n < rows; ++n)
          for (int i = 0; i < sums.lanes(); ++i) sums.at(i, n) = logits.at(i, n);
        const Approx inverse = Approx::rounded(1 / temperature, 0);
        const int first = rows / 3;  // a level begins anywhere
        cumulate(sums, {first, rows}, V, static_cast<float>(inverse.value));
        for (int n = 0; n < first; ++n)
          for (int v = 0; v < V; ++v) CHECK(same_bits(sums.at(v, n), logits.at(v, n)));
        for (int n = first; n < rows; ++n) {
          double most = -INFINITY;
          for (int v = 0; v < V; ++v) most = std::fmax(most, logits.at(v, n));
          Total sum;
          for (int v = 0; v < V; ++v) {
            sum.add(exp((Approx(logits.at(v, n)) - Approx(most)) * inverse));
            near(sums.at(v, n), sum, "cumulate");
          }
          for (const float u : {0.0f, random.uniform(0, 1), 1 - 0x1p-24f}) {
            int want = 0;
            while (sums.at(want, n) <= u * sums.at(V - 1, n) && want < V - 1) ++want;
            const Panels panels = sums;
            CHECK(pick(panels.at(0, n * kPanel), panels.stride, V, u) == want);
          }
        }
      }
  for (int i = 0; i < 1000; ++i) {
    const float u = uniform(1, 2, i);
    CHECK(u >= 0 && u < 1 && u != uniform(1, 2, i + 1) && u != uniform(1, 3, i) &&
          u != uniform(2, 2, i));
  }
  report("sampling");
}

}  // namespace
}  // namespace microgpt

int run_tests(bool matrices_alone) {
  using namespace microgpt;
  const FlushDenormals flush;  // as in a training step: exp counts on it
  test_product();
  test_adam();
  test_weight_gradient();
  test_directions();
  if (matrices_alone) return result();
  test_lanes<Vec, Vec::lanes>();
  test_lanes<Vec16, kPanel>();
  test_vector();
  test_exp_log();
  test_share();
  test_find_active();
  test_prefixes();
  test_norm();
  test_embedding();
  test_attention();
  test_tiled_attention();
  test_loss();
  test_sampling();
  return result();
}
