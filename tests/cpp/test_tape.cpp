// The scalar autograd tape against central differences and the hand-derived gradients, f32 against
// f64, and a batch against its documents. Exit code 0 when all hold.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "../../cpp/tape.h"
#include "reference.h"

using namespace microgpt;

namespace {

using Numbers = std::vector<double>;

int failures = 0;

void check(bool ok, const char* what, double found, double bound) {
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s: %.3g, expected at most %.3g\n", what, found, bound);
}

void at_most(double found, double bound, const char* what) {
  check(found <= bound, what, found, bound);  // false for NaN
}

constexpr double kEps = std::numeric_limits<double>::epsilon();

// Central differences with step h are off by f''' h^2 / 6 and by a few eps |f| / h of rounding;
// with h = 1e-5 and f, f''' up to some tens, both stay under 1e-8.
constexpr double kStep = 1e-5, kDifference = 1e-8;

// f of x by way of every operation, with the inner nodes of a sum of products used a second time,
// and with squares, whose two parents are one node.
Var expression(Tape<double>& tape, const Numbers& x) {
  tape.rewind(0);
  for (const double v : x) tape.leaf(v);
  const auto at = [](Var first) { return [=](int i) { return static_cast<Var>(first + i); }; };
  const Var sum = tape.dot(3, at(0), at(3));      // x0 x3 + x1 x4 + x2 x5
  const Var middle = tape.mul(sum - 1, sum - 2);  // (x0 x3 + x1 x4) x0 x3
  const Var squares = tape.dot(6, at(0), at(0));
  const Var norm = tape.add(tape.rsqrt(squares), tape.reciprocal(sum));
  const Var dead = tape.relu(tape.mul(squares, tape.leaf(-1)));
  const Var alive = tape.relu(tape.add(norm, middle));
  const Var last = tape.log(tape.add(tape.exp(alive, 0.5), squares));
  return tape.add(tape.add(last, dead), tape.mul(middle, norm));
}

void test_operations() {
  Numbers x = {0.7, -0.4, 0.9, 0.5, 0.3, 0.8};
  Tape<double> tape;
  for (const double seed : {1.0, -0.25}) {
    // x counts as before the tape: its gradients are added to, and x[0] already has one.
    const Var root = expression(tape, x);
    std::fill_n(tape.gradients(), x.size(), 0.0);
    tape.gradients()[0] = 3;
    tape.backward(root, seed, static_cast<Var>(x.size()));
    const Numbers found(tape.gradients(), tape.gradients() + x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const double kept = x[i];
      x[i] = kept + kStep;
      const double above = tape.value(expression(tape, x));
      x[i] = kept - kStep;
      const double below = tape.value(expression(tape, x));
      x[i] = kept;
      const double expected = seed * (above - below) / (2 * kStep) + (i == 0 ? 3 : 0);
      at_most(std::fabs(found[i] - expected), kDifference, "gradient of an expression");
    }
  }
}

struct Case {
  Config config;
  std::vector<std::vector<int32_t>> words;  // without BOS
};

// A model, its documents, and random parameters large enough for every gradient to count.
struct Problem {
  explicit Problem(const Case& c) : config(c.config), parameters(parameter_count(c.config)) {
    const int32_t bos = config.vocab_size - 1;
    for (const auto& word : c.words) {
      tokens.push_back(bos);
      tokens.insert(tokens.end(), word.begin(), word.end());
      tokens.push_back(bos);
      offsets.push_back(static_cast<int64_t>(tokens.size()));
    }
    std::mt19937 random(7);
    for (double& p : parameters) p = (random() / 4294967296.0 - 0.5) * 0.8;
  }

  int count() const { return static_cast<int>(offsets.size()) - 1; }
  Batch batch(int64_t first, int size) const {
    return {{tokens.data(), offsets.data(), count()}, first, size};
  }

  Config config;
  std::vector<int32_t> tokens;
  std::vector<int64_t> offsets = {0};
  Numbers parameters;
};

// Documents of one character, as long as T, longer than T; L, C, H, T and V of all kinds.
const std::vector<Case> kCases = {
    {{1, 8, 4, 4, 5}, {{0}, {1, 2}, {3, 3, 0, 1}, {2, 1, 0, 1, 2, 3}}},
    {{2, 6, 3, 3, 4}, {{2}, {1, 0, 2, 2, 1}, {0, 1}}},
    {{3, 5, 1, 1, 2}, {{0}, {0, 0, 0}}},
    {{1, 20, 5, 7, 9}, {{7, 6, 5, 4, 3, 2, 1, 0, 1}, {4}}},
};

Numbers read(const Engine& engine, Slot slot, size_t count) {
  Numbers x(count);
  engine.read(slot, x.data());
  return x;
}

double distance(const Numbers& x, const Numbers& y) {  // relative L2
  double difference = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    difference += (x[i] - y[i]) * (x[i] - y[i]);
    norm += y[i] * y[i];
  }
  return std::sqrt(difference / norm);
}

void test_central_differences(Problem p) {
  TapeEngine<double> engine(p.config);
  const Batch batch = p.batch(1, p.count());
  engine.write(Slot::parameter, p.parameters.data());
  const double loss = engine.gradient(batch);
  at_most(std::fabs(loss - engine.loss(batch)), 0, "loss() against gradient()");
  const Numbers found = read(engine, Slot::gradient, p.parameters.size());
  double worst = 0;
  for (size_t i = 0; i < p.parameters.size(); ++i) {
    double sides[2];
    for (int side = 0; side < 2; ++side) {
      Numbers moved = p.parameters;
      moved[i] += side ? kStep : -kStep;
      engine.write(Slot::parameter, moved.data());
      sides[side] = engine.loss(batch);
    }
    const double expected = (sides[1] - sides[0]) / (2 * kStep);
    worst = std::max(worst, std::fabs(found[i] - expected));
  }
  at_most(worst, kDifference, "gradient against central differences");
}

// Two independent derivations in f64, apart by rounding alone: some 10^4 operations each.
void test_hand_derived(const Problem& p) {
  const Batch batch = p.batch(0, p.count());
  TapeEngine<double> tape(p.config);
  ReferenceEngine reference(p.config, batch.size);
  tape.write(Slot::parameter, p.parameters.data());
  reference.write(Slot::parameter, p.parameters.data());
  const double bound = 1e4 * kEps, loss = reference.gradient(batch);
  at_most(std::fabs(tape.gradient(batch) / loss - 1), bound, "loss against the hand-derived");
  const size_t count = p.parameters.size();
  at_most(distance(read(tape, Slot::gradient, count), read(reference, Slot::gradient, count)),
          bound, "gradient against the hand-derived");
}

void test_batch_is_mean(const Problem& p) {
  TapeEngine<double> engine(p.config);
  engine.write(Slot::parameter, p.parameters.data());
  const int first = p.count() - 1, size = p.count() + 1;  // wraps around, one document twice
  Numbers mean(p.parameters.size());
  double loss = 0;
  for (int i = 0; i < size; ++i) {
    loss += engine.gradient(p.batch(first + i, 1)) / size;
    const Numbers one = read(engine, Slot::gradient, mean.size());
    for (size_t k = 0; k < mean.size(); ++k) mean[k] += one[k] / size;
  }
  // The seed 1 / size is rounded once, and each of the few dozen operations from it to a gradient
  // once more.
  const double bound = 64 * kEps;
  at_most(std::fabs(engine.gradient(p.batch(first, size)) - loss), bound * loss, "batch loss");
  const Numbers found = read(engine, Slot::gradient, mean.size());
  at_most(distance(found, mean), bound, "gradient of a batch against the mean of its documents");
  // The tape is reused: nothing of the last document may be left in it.
  engine.gradient(p.batch(first, size));
  at_most(distance(read(engine, Slot::gradient, mean.size()), found), 0, "the same batch again");
}

void test_float_against_double(const Problem& p) {
  TapeEngine<double> wide(p.config);
  TapeEngine<float> narrow(p.config);
  wide.write(Slot::parameter, p.parameters.data());
  narrow.write(Slot::parameter, p.parameters.data());
  const Batch batch = p.batch(0, p.count());
  const double loss = wide.gradient(batch);
  at_most(std::fabs(narrow.gradient(batch) / loss - 1), 1e-6, "f32 loss");
  const size_t count = p.parameters.size();
  at_most(distance(read(narrow, Slot::gradient, count), read(wide, Slot::gradient, count)), 1e-5,
          "f32 gradient");
}

void test_adam(const Problem& p) {
  const size_t count = p.parameters.size();
  TapeEngine<double> engine(p.config);
  engine.write(Slot::parameter, p.parameters.data());
  Numbers parameters = p.parameters, m(count), v(count);
  for (int step = 0; step < 3; ++step) {
    const Batch batch = p.batch(2 * step, 2);
    const double expected = engine.gradient(batch);
    const Numbers g = read(engine, Slot::gradient, count);
    const AdamStep adam = {0.01 / (step + 1),
                           0.85,
                           0.99,
                           1 - std::pow(0.85, step + 1),
                           1 - std::pow(0.99, step + 1),
                           1e-8};
    at_most(std::fabs(engine.step(batch, adam) - expected), 0, "loss of step()");
    for (size_t i = 0; i < count; ++i) {
      m[i] = 0.85 * m[i] + 0.15 * g[i];
      v[i] = 0.99 * v[i] + 0.01 * g[i] * g[i];
      parameters[i] -=
          adam.rate * (m[i] / adam.correction1) / (std::sqrt(v[i] / adam.correction2) + 1e-8);
    }
  }
  // Three updates of about ten rounded operations.
  const double bound = 32 * kEps;
  at_most(distance(read(engine, Slot::parameter, count), parameters), bound, "Adam: parameters");
  at_most(distance(read(engine, Slot::first_moment, count), m), bound, "Adam: first moment");
  at_most(distance(read(engine, Slot::second_moment, count), v), bound, "Adam: second moment");
}

void test_slots(const Problem& p) {
  TapeEngine<double> engine(p.config);
  const Slot slots[] = {Slot::parameter, Slot::first_moment, Slot::second_moment};
  std::vector<Numbers> written;
  for (const Slot slot : slots) {
    Numbers values = p.parameters;
    for (double& x : values) x += static_cast<double>(written.size());
    engine.write(slot, values.data());
    written.push_back(values);
  }
  for (int i = 0; i < 3; ++i) {
    at_most(distance(read(engine, slots[i], p.parameters.size()), written[i]), 0, "slots");
  }
}

}  // namespace

int main() {
  test_operations();
  for (const Case& c : kCases) {
    const Problem p(c);
    test_central_differences(p);
    test_hand_derived(p);
    test_batch_is_mean(p);
    test_float_against_double(p);
    test_adam(p);
    test_slots(p);
  }
  if (failures == 0) std::puts("test_tape: all passed");
  return failures == 0 ? 0 : 1;
}
