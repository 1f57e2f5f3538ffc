// The scalar autograd of microgpt as a tape: one node per scalar operation, recorded in forward
// order into an arena that every document reuses; backward is one sweep from the loss to the front.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "config.h"
#include "denormals.h"
#include "engine.h"
#include "params.h"

namespace microgpt {

using Var = uint32_t;  // a scalar, by the position of its node on the tape
using Vars = std::vector<Var>;

enum class Op : uint8_t { leaf, add, mul, mul_add, reciprocal, rsqrt, exp, log, relu };

// A node is a value, a gradient, an opcode and up to two parents: 17 bytes in f32. Local
// derivatives are recomputed from the values, which are in cache, not stored. A mul_add has a
// third parent, the node just before it: it is one scalar multiplication and one scalar addition,
// rounded twice, and a sum of products is a run of them, in which backward carries the gradient of
// the running sum in a register: 2.5 to 3 times faster than a mul node and an add node each.
template <class Real>
class Tape {
 public:
  Var size() const { return size_; }
  void rewind(Var size) { size_ = size; }  // forgets the nodes from `size` on

  Real value(Var x) const { return value_[x]; }
  const Real* values() const { return value_.data(); }
  Real* values() { return value_.data(); }
  const Real* gradients() const { return gradient_.data(); }
  Real* gradients() { return gradient_.data(); }

  Var leaf(Real x) { return record(Op::leaf, x, 0, 0); }
  Var add(Var a, Var b) { return record(Op::add, value_[a] + value_[b], a, b); }
  Var mul(Var a, Var b) { return record(Op::mul, value_[a] * value_[b], a, b); }
  Var reciprocal(Var a) { return record(Op::reciprocal, 1 / value_[a], a, 0); }
  Var rsqrt(Var a) { return record(Op::rsqrt, 1 / std::sqrt(value_[a]), a, 0); }
  Var log(Var a) { return record(Op::log, std::log(value_[a]), a, 0); }
  Var relu(Var a) { return record(Op::relu, value_[a] > 0 ? value_[a] : 0, a, 0); }
  // e^(a - shift) with a constant shift
  Var exp(Var a, Real shift) { return record(Op::exp, std::exp(value_[a] - shift), a, 0); }

  // a(0) b(0) + ... + a(n-1) b(n-1), n >= 1: a mul, then n - 1 mul_adds. Returns the last node.
  template <class A, class B>
  Var dot(int n, A a, B b) {
    reserve(n);
    // Locals, since the compiler cannot know that the stores leave the members alone.
    const Real* const operand = value_.data();
    Real* const value = value_.data() + size_;
    Parents* const parents = parents_.data() + size_;
    Op* const op = op_.data() + size_;
    Real sum = operand[a(0)] * operand[b(0)];
    value[0] = sum;
    parents[0] = {a(0), b(0)};
    op[0] = Op::mul;
    for (int i = 1; i < n; ++i) {
      const Var x = a(i), y = b(i);
      sum += operand[x] * operand[y];
      value[i] = sum;
      parents[i] = {x, y};
      op[i] = Op::mul_add;
    }
    size_ += n;
    return size_ - 1;
  }

  // Adds seed * d(root)/d(x) to the gradient of every x before `first` (> 0), and sets that of the
  // nodes from `first` on that the sweep passes through.
  void backward(Var root, Real seed, Var first) {
    const Real* const value = value_.data();
    Real* const gradient = gradient_.data();
    const Parents* const parents = parents_.data();
    const Op* const op = op_.data();
    std::fill(gradient + first, gradient + root, Real(0));
    gradient[root] = seed;
    for (Var i = root; i >= first; --i) {
      Real g = gradient[i];
      if (g == 0) continue;  // all of what an inactive ReLU is made of
      const auto [a, b] = parents[i];
      switch (op[i]) {
        case Op::leaf:
          break;
        case Op::add:
          gradient[a] += g;
          gradient[b] += g;
          break;
        case Op::mul_add:
          do {
            multiply_backward(parents[i], g, value, gradient);
            g += gradient[--i];
          } while (op[i] == Op::mul_add);
          gradient[i++] = g;
          break;
        case Op::mul:
          multiply_backward(parents[i], g, value, gradient);
          break;
        case Op::reciprocal:  // d(1/x) = -(1/x)^2
          gradient[a] -= g * value[i] * value[i];
          break;
        case Op::rsqrt:  // d(x^-1/2) = -1/2 x^-3/2
          gradient[a] -= g * Real(0.5) * value[i] * value[i] * value[i];
          break;
        case Op::exp:
          gradient[a] += g * value[i];
          break;
        case Op::log:
          gradient[a] += g / value[a];
          break;
        case Op::relu:
          if (value[i] > 0) gradient[a] += g;
          break;
      }
    }
  }

  size_t bytes() const {
    return (value_.capacity() + gradient_.capacity()) * sizeof(Real) +
           parents_.capacity() * sizeof(Parents) + op_.capacity() * sizeof(Op);
  }

 private:
  struct Parents {
    Var a, b;
  };

  static void multiply_backward(Parents p, Real g, const Real* value, Real* gradient) {
    gradient[p.a] += g * value[p.b];
    gradient[p.b] += g * value[p.a];
  }

  Var record(Op op, Real value, Var a, Var b) {
    reserve(1);
    value_[size_] = value;
    parents_[size_] = {a, b};
    op_[size_] = op;
    return size_++;
  }

  void reserve(size_t more) {
    if (size_ + more > value_.size()) grow(size_ + more);
  }

  void grow(size_t needed) {
    constexpr size_t limit = std::numeric_limits<Var>::max();
    if (needed > limit) {
      throw std::length_error(
          "the autograd tape of one document would need more than 4294967295 nodes: "
          "make the model or block_size smaller, or choose another engine");
    }
    const size_t size = std::min(2 * needed, limit);
    gradient_.resize(size);
    parents_.resize(size);
    op_.resize(size);
    value_.resize(size);  // last: its size is the room there is, whatever may throw before
  }

  std::vector<Real> value_, gradient_;
  std::vector<Parents> parents_;
  std::vector<Op> op_;
  Var size_ = 0;
};

// microgpt on the tape. The parameters are its first nodes, in the natural layout; then come a few
// constants; then, from first_ on, the document at hand.
template <class Real>
class TapeEngine final : public Engine {
 public:
  explicit TapeEngine(const Config& config)
      : config_(config), layout_(config), count_(parameter_count(config)), first_moment_(count_),
        second_moment_(count_), keys_(size_t(config.n_layer) * config.block_size * config.n_embd),
        values_(keys_.size()) {
    for (size_t i = 0; i < count_; ++i) tape_.leaf(0);
    norm_epsilon_ = tape_.leaf(Real(1e-5));
    mean_ = tape_.leaf(Real(1.0 / config.n_embd));
    attention_scale_ = tape_.leaf(Real(1 / std::sqrt(double(config.head_dim()))));
    first_ = tape_.size();
  }

  void write(Slot slot, const double* natural) override {
    Real* const to = data(*this, slot);
    for (size_t i = 0; i < count_; ++i) to[i] = static_cast<Real>(natural[i]);
  }

  void read(Slot slot, double* natural) const override {
    const Real* const from = data(*this, slot);
    for (size_t i = 0; i < count_; ++i) natural[i] = from[i];
  }

  // One document's tape at a time: memory does not depend on the size of the batch.
  double gradient(const Batch& batch) override {
    const Flush flush;
    std::fill_n(tape_.gradients(), first_, Real(0));
    double sum = 0;
    for (int i = 0; i < batch.size; ++i) {
      const Var loss = forward(batch.documents, batch.at(i));
      sum += tape_.value(loss);
      tape_.backward(loss, Real(1.0 / batch.size), first_);
    }
    return sum / batch.size;
  }

  double step(const Batch& batch, const AdamStep& adam) override {
    const Flush flush;
    const double loss = gradient(batch);
    update(adam);
    return loss;
  }

  double loss(const Batch& batch) override {
    const Flush flush;
    double sum = 0;
    for (int i = 0; i < batch.size; ++i) {
      sum += tape_.value(forward(batch.documents, batch.at(i)));
    }
    return sum / batch.size;
  }

  size_t bytes() const override {
    size_t vars = 0;
    for (const Vars* v : {&keys_, &values_, &x_, &y_, &query_, &hidden_, &weights_}) {
      vars += v->capacity();
    }
    return tape_.bytes() + 2 * count_ * sizeof(Real) + vars * sizeof(Var);
  }

 private:
  // In f64 nothing becomes denormal.
  struct Leave {
    Leave() {}
  };
  using Flush = std::conditional_t<std::is_same_v<Real, float>, FlushDenormals, Leave>;

  template <class Self>
  static auto data(Self& self, Slot slot) -> decltype(self.tape_.values()) {
    switch (slot) {
      case Slot::parameter:
        return self.tape_.values();
      case Slot::first_moment:
        return self.first_moment_.data();
      case Slot::second_moment:
        return self.second_moment_.data();
      case Slot::gradient:
        return self.tape_.gradients();
    }
    return nullptr;
  }

  // Loss of document d, on a fresh tape.
  Var forward(const Documents& documents, int64_t d) {
    const int C = config_.n_embd, T = config_.block_size;
    const int32_t* const tokens = documents.begin(d);
    const int n = documents.positions(d, T);
    tape_.rewind(first_);
    Var sum = 0;  // of log probabilities
    for (int t = 0; t < n; ++t) {
      embed(tokens[t], t);
      for (int l = 0; l < config_.n_layer; ++l) {
        rmsnorm(x_, y_);
        attention(l, t);
        linear(y_, layout_.attn_wo(l), C, hidden_);
        add_to_x(hidden_);
        rmsnorm(x_, y_);
        linear(y_, layout_.mlp_fc1(l), 4 * C, hidden_);
        for (Var& h : hidden_) h = tape_.relu(h);
        linear(hidden_, layout_.mlp_fc2(l), C, y_);
        add_to_x(y_);
      }
      linear(x_, layout_.lm_head(), config_.vocab_size, weights_);
      const Var log_probability = log_softmax(weights_, tokens[t + 1]);
      sum = t == 0 ? log_probability : tape_.add(sum, log_probability);
    }
    return tape_.mul(sum, tape_.leaf(Real(-1.0 / n)));
  }

  // x = rms(wte[token] + wpe[t])
  void embed(int token, int t) {
    const int C = config_.n_embd;
    y_.resize(C);
    for (int i = 0; i < C; ++i) {
      y_[i] = tape_.add(static_cast<Var>(layout_.wte() + int64_t{token} * C + i),
                        static_cast<Var>(layout_.wpe() + int64_t{t} * C + i));
    }
    rmsnorm(y_, x_);
  }

  // y = attention of position t over positions 0 .. t, before the output projection; y comes in
  // as the normalised input
  void attention(int l, int t) {
    const int C = config_.n_embd, D = config_.head_dim();
    Var* const keys = keys_.data() + int64_t{l} * config_.block_size * C;      // (T, C)
    Var* const values = values_.data() + int64_t{l} * config_.block_size * C;  // (T, C)
    linear(y_, layout_.attn_wq(l), C, query_);
    linear(y_, layout_.attn_wk(l), C, hidden_);
    std::copy(hidden_.begin(), hidden_.end(), keys + int64_t{t} * C);
    linear(y_, layout_.attn_wv(l), C, hidden_);
    std::copy(hidden_.begin(), hidden_.end(), values + int64_t{t} * C);

    for (int head = 0; head < C; head += D) {
      const Var* const q = query_.data() + head;
      weights_.resize(t + 1);
      for (int s = 0; s <= t; ++s) {
        const Var* const k = keys + int64_t{s} * C + head;
        const Var score = tape_.dot(D, [=](int i) { return q[i]; }, [=](int i) { return k[i]; });
        weights_[s] = tape_.mul(score, attention_scale_);
      }
      softmax(weights_);
      const Var* const w = weights_.data();
      for (int i = head; i < head + D; ++i) {
        const Var* const v = values + i;
        y_[i] =
            tape_.dot(t + 1, [=](int s) { return w[s]; }, [=](int s) { return v[int64_t{s} * C]; });
      }
    }
  }

  // y (rows,) = W x, with W (rows, |x|) at `weight`; x and y must be two vectors
  void linear(const Vars& x, int64_t weight, int rows, Vars& y) {
    const int n = static_cast<int>(x.size());
    const Var* const in = x.data();
    y.resize(rows);
    for (int r = 0; r < rows; ++r) {
      const Var row = static_cast<Var>(weight + int64_t{r} * n);
      y[r] = tape_.dot(n, [=](int i) { return row + i; }, [=](int i) { return in[i]; });
    }
  }

  // y = x (mean(x^2) + 1e-5)^-1/2
  void rmsnorm(const Vars& x, Vars& y) {
    const int n = static_cast<int>(x.size());
    const auto each = [in = x.data()](int i) { return in[i]; };
    const Var mean_square = tape_.mul(tape_.dot(n, each, each), mean_);
    const Var scale = tape_.rsqrt(tape_.add(mean_square, norm_epsilon_));
    y.resize(n);
    for (int i = 0; i < n; ++i) y[i] = tape_.mul(x[i], scale);
  }

  struct Normalizer {
    Real maximum;
    Var total;
  };

  // In place. The maximum is subtracted as a plain number, as in the original.
  Normalizer softmax(Vars& x) {
    Real maximum = tape_.value(x[0]);
    for (const Var v : x) maximum = std::max(maximum, tape_.value(v));
    for (Var& v : x) v = tape_.exp(v, maximum);
    Var total = x[0];
    for (size_t i = 1; i < x.size(); ++i) total = tape_.add(total, x[i]);
    const Var scale = tape_.reciprocal(total);
    for (Var& v : x) v = tape_.mul(v, scale);
    return {maximum, total};
  }

  // log softmax(x)[target], as the original takes it, or as x - max - log sum e^(x - max) where the
  // probability is too small for a float. x becomes the probabilities.
  Var log_softmax(Vars& x, int target) {
    const Var logit = x[target];
    const Normalizer by = softmax(x);
    if (tape_.value(x[target]) >= std::numeric_limits<Real>::min()) return tape_.log(x[target]);
    const Var shifted = tape_.add(logit, tape_.leaf(-by.maximum));
    return tape_.add(shifted, tape_.mul(tape_.log(by.total), tape_.leaf(-1)));
  }

  void add_to_x(const Vars& y) {
    for (size_t i = 0; i < x_.size(); ++i) x_[i] = tape_.add(x_[i], y[i]);
  }

  void update(const AdamStep& adam) {
    const Real beta1 = Real(adam.beta1), rest1 = Real(1 - adam.beta1);
    const Real beta2 = Real(adam.beta2), rest2 = Real(1 - adam.beta2);
    const Real rate = Real(adam.rate / adam.correction1), scale = Real(1 / adam.correction2);
    const Real eps = Real(adam.eps);
    Real* __restrict p = tape_.values();
    Real* __restrict m = first_moment_.data();
    Real* __restrict v = second_moment_.data();
    const Real* __restrict gradient = tape_.gradients();
    for (size_t i = 0; i < count_; ++i) {
      const Real g = gradient[i];
      m[i] = beta1 * m[i] + rest1 * g;
      v[i] = beta2 * v[i] + rest2 * g * g;
      p[i] -= rate * m[i] / (std::sqrt(v[i] * scale) + eps);
    }
  }

  Config config_;
  Layout layout_;
  size_t count_;                                    // of parameters
  std::vector<Real> first_moment_, second_moment_;  // (count,)
  Tape<Real> tape_;
  Var norm_epsilon_, mean_, attention_scale_;  // constants: 1e-5, 1/C, 1/sqrt(D)
  Var first_;                                  // the first node of a document
  Vars keys_, values_;                         // (L, T, C)
  Vars x_, y_, query_;                         // (C,): residual stream, its norm, q
  Vars hidden_;                                // (C,) or (4C,)
  Vars weights_;                               // (t + 1,) or (V,)
};

}  // namespace microgpt
