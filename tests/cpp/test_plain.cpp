// The plain kernels: each against its definition on whole numbers, where f32 is exact; the loss of
// the f64 model against the definition of the model, its gradients against central differences of
// that loss; f32 against f64; and what an engine may touch.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "../../cpp/tensors.h"
#include "check.h"
#include "reference.h"

namespace microgpt {
namespace {

using Values = std::vector<double>;

const int kSizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33};

// ---- Kernels ----------------------------------------------------------------------------------

void fill(Block& block, Random& random) {
  for (int64_t i = 0; i < block.size(); ++i) block[i] = static_cast<float>(random.below(19) - 9);
}

template <class Epilogue>
void test_product(const char* name, int rows, int depth, int columns) {
  at_case("%s (%d, %d) (%d, %d)", name, rows, depth, depth, columns);
  Random random;
  const int ld_out = columns + 3, ld_b = columns + 2;
  for (const bool transposed : {false, true}) {
    Block a(rows * depth), b(depth * ld_b), out(rows * ld_out), before(rows * ld_out);
    for (Block* block : {&a, &b, &before}) fill(*block, random);
    std::memcpy(out.data(), before.data(), sizeof(float) * out.size());
    const Elements<float> elements =
        transposed ? Elements<float>{a.data(), 1, rows} : Elements<float>{a.data(), depth, 1};
    product<Epilogue>(out.data(), ld_out, elements, b.data(), ld_b, rows, depth, columns);
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < ld_out; ++j) {
        float want = before[i * ld_out + j];
        if (j < columns) {
          float sum = 0;
          for (int k = 0; k < depth; ++k)
            sum += a[transposed ? k * rows + i : i * depth + k] * b[k * ld_b + j];
          want = Epilogue::apply(want, sum);
        }
        CHECK(out[i * ld_out + j] == want);
      }
    CHECK(out.intact());
  }
}

void test_products() {
  for (int rows : {1, 2, 3, 4, 5, 8, 11})
    for (int depth : {1, 2, 7, 16})
      for (int columns : kSizes) {
        test_product<Store>("store", rows, depth, columns);
        test_product<Add>("add", rows, depth, columns);
        test_product<Relu>("relu", rows, depth, columns);
        test_product<MaskByRelu>("mask", rows, depth, columns);
      }
}

void test_transpose() {
  Random random;
  for (int rows : kSizes)
    for (int columns : kSizes) {
      at_case("(%d, %d)", rows, columns);
      const int ld_in = columns + 1, ld_out = rows + 2;
      Block in(rows * ld_in), out(columns * ld_out);
      fill(in, random);
      transpose(out.data(), ld_out, in.data(), ld_in, rows, columns);
      for (int j = 0; j < columns; ++j)
        for (int i = 0; i < ld_out; ++i) {
          const float got = out[j * ld_out + i];
          CHECK(i < rows ? got == in[i * ld_in + j] : is_poison(got));
        }
      CHECK(out.intact());
    }
}

void test_dot() {
  Random random;
  for (int n : kSizes) {
    at_case("%d", n);
    Block a(n), b(n);
    fill(a, random);
    fill(b, random);
    float want = 0;
    for (int i = 0; i < n; ++i) want += a[i] * b[i];
    CHECK(dot(a.data(), b.data(), n) == want);
  }
}

void test_exponential() {
  for (double x = -87; x <= 0; x += 1.0 / 4096 + 1e-5) {
    at_case("%g", x);
    const float f = static_cast<float>(x);
    const double want = std::exp(static_cast<double>(f));
    CHECK(std::fabs(exponential(f) - want) <= 1.2e-7 * want);  // what its comment promises
  }
  CHECK(exponential(0.0f) == 1.0f);
  CHECK(exponential(-87.01f) == 0.0f);
  CHECK(exponential(-1e30f) == 0.0f);
}

// ---- Models -----------------------------------------------------------------------------------

struct Case {
  Config config;
  int batch_size;
};
const Case kCases[] = {
    // L, C, H, T, V
    {{1, 8, 1, 3, 5}, 1},  {{1, 8, 2, 8, 5}, 4},    {{2, 8, 4, 3, 4}, 7},    {{1, 20, 4, 8, 7}, 5},
    {{2, 20, 2, 8, 7}, 3}, {{2, 20, 1, 19, 17}, 4}, {{1, 32, 4, 16, 27}, 6}, {{1, 3, 3, 1, 2}, 2},
};

void at_model(const Case& c, const char* detail) {
  at_case("L %d C %d H %d T %d V %d B %d %s", c.config.n_layer, c.config.n_embd, c.config.n_head,
          c.config.block_size, c.config.vocab_size, c.batch_size, detail);
}

// Documents of one character, of several, and longer than T.
Corpus documents(const Case& c, Random& random) {
  Corpus corpus = random_corpus(random, c.batch_size, c.config.vocab_size, c.config.block_size + 3);
  corpus.add({c.config.vocab_size - 1, 0, c.config.vocab_size - 1});
  return corpus;
}

// Numbers that f32 holds exactly; wider than the usual 0.08, so that no gradient is negligible.
Values parameters(const Config& config, Random& random) {
  Values values(parameter_count(config));
  for (double& x : values) x = random.normal(0.3f);
  return values;
}

template <class Real>
class Model32Or64 {
 public:
  explicit Model32Or64(const Case& c) : setup_() {
    setup_.config = c.config;
    setup_.batch_size = c.batch_size;
    bytes_ = Plain<Real>::bytes(setup_);
    lines_.resize(bytes_ / 64 + 1 + 2 * kGuard);
    std::memset(lines_.data(), 0x7f, kGuard * 64);
    std::memset(state() + bytes_, 0x7f, end() - state() - bytes_);
    Plain<Real>::create(state(), setup_);
  }
  char* state() { return lines_[kGuard].bytes; }
  Values read(Slot slot) {
    Values values(parameter_count(setup_.config));
    Plain<Real>::read(state(), slot, values.data());
    return values;
  }
  bool intact() {
    for (char* at = lines_[0].bytes; at < end(); ++at)
      if ((at < state() || at >= state() + bytes_) && *at != 0x7f) return false;
    return true;
  }

 private:
  static constexpr int kGuard = 8;  // lines before and after the block
  struct alignas(64) Line {
    char bytes[64] = {};
  };
  char* end() { return lines_[0].bytes + lines_.size() * 64; }

  Setup setup_;
  size_t bytes_;
  std::vector<Line> lines_;
};

double norm(const double* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return std::sqrt(sum);
}

double distance(const double* x, const double* y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
  return std::sqrt(sum);
}

// One position at a time and one sum after the other, as the model is defined.
double loss_by_definition(const Config& c, const Values& p, const Batch& batch) {
  const int C = c.n_embd, D = c.head_dim(), V = c.vocab_size;
  const Layout at(c);
  using Vector = std::vector<double>;
  const auto linear = [&](int64_t w, int out, const Vector& x) {
    Vector y(out);
    for (int o = 0; o < out; ++o)
      for (size_t i = 0; i < x.size(); ++i) y[o] += p[w + o * x.size() + i] * x[i];
    return y;
  };
  const auto norm = [](Vector x) {
    double mean = 0;
    for (double a : x) mean += a * a / x.size();
    for (double& a : x) a /= std::sqrt(mean + 1e-5);
    return x;
  };
  const auto softmax = [](Vector x) {
    double sum = 0;
    for (double& a : x) sum += a = std::exp(a);
    for (double& a : x) a /= sum;
    return x;
  };
  double loss = 0;
  for (int d = 0; d < batch.size; ++d) {
    const int32_t* const token = batch.documents.begin(batch.at(d));
    const int n = batch.documents.positions(batch.at(d), c.block_size);
    std::vector<std::vector<Vector>> keys(c.n_layer), values(c.n_layer);  // of the positions so far
    for (int t = 0; t < n; ++t) {
      Vector x(C);
      for (int i = 0; i < C; ++i) x[i] = p[at.wte() + token[t] * C + i] + p[at.wpe() + t * C + i];
      x = norm(x);
      for (int layer = 0; layer < c.n_layer; ++layer) {
        const Vector a = norm(x), q = linear(at.attn_wq(layer), C, a);
        keys[layer].push_back(linear(at.attn_wk(layer), C, a));
        values[layer].push_back(linear(at.attn_wv(layer), C, a));
        Vector y(C);
        for (int h = 0; h < C; h += D) {
          Vector score(t + 1);
          for (int s = 0; s <= t; ++s)
            for (int i = h; i < h + D; ++i) score[s] += q[i] * keys[layer][s][i] / std::sqrt(D);
          score = softmax(score);
          for (int s = 0; s <= t; ++s)
            for (int i = h; i < h + D; ++i) y[i] += score[s] * values[layer][s][i];
        }
        y = linear(at.attn_wo(layer), C, y);
        for (int i = 0; i < C; ++i) x[i] += y[i];
        Vector hidden = linear(at.mlp_fc1(layer), 4 * C, norm(x));
        for (double& h : hidden) h = std::fmax(h, 0);
        hidden = linear(at.mlp_fc2(layer), C, hidden);
        for (int i = 0; i < C; ++i) x[i] += hidden[i];
      }
      loss -= std::log(softmax(linear(at.lm_head(), V, x))[token[t + 1]]) / n / batch.size;
    }
  }
  return loss;
}

// The step h leaves h^2 / 6 f''' of the series: 2e-11 f''', where third derivatives reach 10; and
// divides the rounding of two losses near 3 by 2h: some 100 operations deep in a row, 1e-13 / 2e-5.
void test_central_differences(const Case& c) {
  constexpr double h = 1e-5, bound = 1e-8;
  Random random;
  const Corpus corpus = documents(c, random);
  const Batch batch = corpus.batch(1, c.batch_size);  // the document of one character is the last
  Values at = parameters(c.config, random), gradient(at.size());
  ReferenceEngine engine(c.config, c.batch_size);
  engine.write(Slot::parameter, at.data());
  at_model(c, "loss");
  const double defined = loss_by_definition(c.config, at, batch);
  // Some 100 operations deep, each rounding to 1.1e-16; a loss is near 3.
  CHECK(std::fabs(engine.gradient(batch) - defined) <= 1e-13);
  engine.read(Slot::gradient, gradient.data());
  for (const Tensor& tensor : tensors(c.config)) {
    at_model(c, tensor.name.c_str());
    const int64_t size = tensor.rows * tensor.cols;
    for (int trial = 0; trial < 60; ++trial) {
      const int64_t i = tensor.offset + random.below(static_cast<int>(size));
      const double x = at[i];
      double loss[2];
      for (int side = 0; side < 2; ++side) {
        at[i] = side ? x + h : x - h;
        engine.write(Slot::parameter, at.data());
        loss[side] = engine.loss(batch);
      }
      at[i] = x;
      const double error = std::fabs((loss[1] - loss[0]) / (2 * h) - gradient[i]);
      worst = std::fmax(worst, error / bound);
      CHECK(error <= bound);
    }
  }
}

AdamStep adam_step(int step, double rate, double eps) {
  return {rate, 0.85, 0.99, 1 - std::pow(0.85, step + 1), 1 - std::pow(0.99, step + 1), eps};
}

// The mean of the gradients of the documents alone, to the rounding of f64.
void test_batch_is_mean(const Case& c) {
  at_model(c, "");
  Random random;
  const Corpus corpus = documents(c, random);
  const Values at = parameters(c.config, random);
  Values mean(at.size()), one(at.size()), whole(at.size());
  ReferenceEngine engine(c.config, c.batch_size);
  engine.write(Slot::parameter, at.data());
  double loss = 0;
  for (int d = 0; d < c.batch_size; ++d) {
    loss += engine.gradient(corpus.batch(1 + d, 1)) / c.batch_size;
    engine.read(Slot::gradient, one.data());
    for (size_t i = 0; i < one.size(); ++i) mean[i] += one[i] / c.batch_size;
  }
  CHECK(std::fabs(engine.gradient(corpus.batch(1, c.batch_size)) - loss) <= 1e-13 * loss);
  engine.read(Slot::gradient, whole.data());
  CHECK(distance(whole.data(), mean.data(), mean.size()) <= 1e-13 * norm(mean.data(), mean.size()));
}

// A sum of n terms in f32 is off by at most n / 2^24 of the sum of magnitudes, typically by the
// root of n: 5e-7 at n = 64. A gradient is a chain of some ten such sums.
constexpr double kGradientError = 1e-5;  // relative, of every tensor

void test_f32(const Case& c) {
  Random random;
  const Corpus corpus = documents(c, random);
  const Batch batch = corpus.batch(1, c.batch_size);
  const Values at = parameters(c.config, random);
  Model32Or64<float> f32(c);
  Model32Or64<double> f64(c);
  Plain<float>::write(f32.state(), Slot::parameter, at.data());
  Plain<double>::write(f64.state(), Slot::parameter, at.data());
  const double loss32 = Plain<float>::gradient(f32.state(), batch);
  const double loss64 = Plain<double>::gradient(f64.state(), batch);
  at_model(c, "loss");
  CHECK(std::fabs(loss32 - loss64) <= 1e-6 * loss64);
  const Values got = f32.read(Slot::gradient), want = f64.read(Slot::gradient);
  for (const Tensor& tensor : tensors(c.config)) {
    at_model(c, tensor.name.c_str());
    const int64_t size = tensor.rows * tensor.cols;
    const double* const g = want.data() + tensor.offset;
    const double error = distance(got.data() + tensor.offset, g, size);
    worst = std::fmax(worst, error / (kGradientError * norm(g, size) + 1e-12));
    CHECK(error <= kGradientError * norm(g, size) + 1e-12);  // wq and wk get none at T = 1
  }

  // Two steps. With this eps the update moves by at most rate / eps times what the gradient moves;
  // with the usual 1e-8 it would jump between -rate and rate where a gradient is nearly zero. The
  // second gradient is taken elsewhere by as much as the first update was off, times the curvature:
  // in all ten times the bound of one step.
  const double eps = 1e-2, rate = 0.01;
  for (int step = 0; step < 2; ++step) {
    Plain<float>::step(f32.state(), batch, adam_step(step, rate, eps));
    Plain<double>::step(f64.state(), batch, adam_step(step, rate, eps));
  }
  const auto off = [&](Slot slot) {
    const Values x = f32.read(slot), y = f64.read(slot);
    return distance(x.data(), y.data(), x.size());
  };
  const double size = norm(want.data(), want.size());
  at_model(c, "two steps");
  const double rounding = 2e-7 * norm(at.data(), at.size());  // of the parameters, each step
  CHECK(off(Slot::parameter) <= 10 * rate / eps * kGradientError * size + rounding);
  CHECK(off(Slot::first_moment) <= 10 * kGradientError * size);
  CHECK(off(Slot::second_moment) <= 10 * 2 * kGradientError * size * size);

  at_model(c, "what else a step touches");
  CHECK(f32.read(Slot::gradient) == got);  // still those of the last call of gradient()
  CHECK(f64.read(Slot::gradient) == want);
  CHECK(f32.intact());
  CHECK(f64.intact());
}

// Adam as it is written in textbooks, from the gradients of the model.
void test_adam(const Case& c) {
  at_model(c, "");
  Random random;
  const Corpus corpus = documents(c, random);
  const Batch batch = corpus.batch(0, c.batch_size);
  Values p = parameters(c.config, random), m(p.size()), v(p.size()), g(p.size()), got(p.size());
  ReferenceEngine engine(c.config, c.batch_size);
  engine.write(Slot::parameter, p.data());
  for (int step = 0; step < 3; ++step) {
    const AdamStep adam = adam_step(step, 0.01, 1e-8);
    engine.gradient(batch);
    engine.read(Slot::gradient, g.data());
    engine.step(batch, adam);
    for (size_t i = 0; i < p.size(); ++i) {
      m[i] = 0.85 * m[i] + 0.15 * g[i];
      v[i] = 0.99 * v[i] + 0.01 * g[i] * g[i];
      p[i] -=
          adam.rate * (m[i] / adam.correction1) / (std::sqrt(v[i] / adam.correction2) + adam.eps);
    }
    engine.read(Slot::parameter, got.data());
    // Ten roundings of an update of at most 0.01, and one of the parameter.
    for (size_t i = 0; i < p.size(); ++i)
      CHECK(std::fabs(got[i] - p[i]) <= 1e-16 * (step + 1) * (1 + 2 * std::fabs(p[i])));
    p = got;
    CHECK(std::fabs(engine.loss(batch) - loss_by_definition(c.config, p, batch)) <= 1e-13);
  }
}

// Attention writes up to kQueries rows past the last.
void test_room(const Case& c) {
  at_model(c, "");
  Model32Or64<float> f32(c);
  const auto& g = Plain<float>::model(f32.state());
  const int64_t rows = c.batch_size * c.config.block_size + kQueries, C = c.config.n_embd;
  for (int i = 0; i < c.config.n_layer; ++i) {
    CHECK(g.layers[i].p - g.layers[i].qkv >= rows * 3 * C);
    CHECK(g.layers[i].m - g.layers[i].y >= rows * C);
  }
  CHECK(g.dqkv - g.dbranch >= rows * C);
  CHECK(g.q_lanes - g.dqkv >= rows * 3 * C);
}

// What an earlier, larger batch left in memory is not seen.
void test_smaller_batch(const Case& c) {
  at_model(c, "");
  Random random;
  const Corpus corpus = documents(c, random);
  const Values at = parameters(c.config, random);
  Model32Or64<float> used(c), fresh(c);
  for (Model32Or64<float>* model : {&used, &fresh})
    Plain<float>::write(model->state(), Slot::parameter, at.data());
  Plain<float>::gradient(used.state(), corpus.batch(0, c.batch_size));
  const Batch last = corpus.batch(c.batch_size, 1);
  CHECK(Plain<float>::gradient(used.state(), last) == Plain<float>::gradient(fresh.state(), last));
  CHECK(used.read(Slot::gradient) == fresh.read(Slot::gradient));
  CHECK(Plain<float>::loss(used.state(), last) == Plain<float>::gradient(fresh.state(), last));
}

}  // namespace
}  // namespace microgpt

int main() {
  using namespace microgpt;
  test_products();
  test_transpose();
  test_dot();
  test_exponential();
  for (const Case& c : kCases) {
    test_central_differences(c);
    report("central differences");
    test_batch_is_mean(c);
    test_f32(c);
    report("f32 gradients");
    test_adam(c);
    test_room(c);
    test_smaller_batch(c);
  }
  return result();
}
