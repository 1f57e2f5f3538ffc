// Whole models: every table of the build against the f64 reference, which itself must agree with
// the f64 tape, an independent implementation. Run as: test_model reference, or test_model TABLE
// [few], for emulators and sanitizers, where all cases take minutes.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>

#include "../../cpp/cpu.h"
#include "../../cpp/tape.h"
#include "../../cpp/team.h"
#include "../../cpp/tensors.h"
#include "build.h"
#include "check.h"
#include "reference.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace microgpt {

#define DECLARE(table) extern const Kernels table;
PYMICROGPT_TABLES(DECLARE)
#undef DECLARE

namespace {

struct Row {
  const char *name, *needs;
  const Kernels* kernels;
};
#define ROW(name, engine, label, isa, arch, needs, where, simd, table, rival, unfit) \
  {name, needs, table},
const Row kRows[] = {PYMICROGPT_ROWS(ROW)};
#undef ROW

// ---- A model in a block of memory between guards ------------------------------------------------

using Values = std::vector<double>;  // in the natural layout

class Model32 final : public Engine {
 public:
  Model32(const Kernels& kernels, Setup setup, int threads = 1)
      : kernels_(kernels), team_(threads) {
    setup.threads = threads;
    bytes_ = kernels.bytes(setup);
    lines_.resize(bytes_ / 64 + 1 + 2 * kGuard);
    std::memset(lines_.data(), kFill, kGuard * 64);
    std::memset(state() + bytes_, kFill, end() - state() - bytes_);
    kernels_.create(state(), setup);
  }

  void write(Slot slot, const double* natural) override { kernels_.write(state(), slot, natural); }
  void read(Slot slot, double* natural) const override {
    kernels_.read(const_cast<Model32*>(this)->state(), slot, natural);
  }
  double gradient(const Batch& batch) override { return run(batch, true, nullptr); }
  double step(const Batch& batch, const AdamStep& adam) override { return run(batch, true, &adam); }
  double loss(const Batch& batch) override { return run(batch, false, nullptr); }
  bool alone = false;  // one thread does the next calls
  Activity activity() const override {
    return kernels_.activity(const_cast<Model32*>(this)->state());
  }
  size_t bytes() const override { return bytes_; }

  bool guards_intact() {
    const auto untouched = [](const char* from, const char* to) {
      for (; from < to; ++from)
        if (*from != kFill) return false;
      return true;
    };
    return untouched(begin(), state()) && untouched(state() + bytes_, end());
  }

 private:
  static constexpr size_t kGuard = 64;  // lines on each side
  static constexpr char kFill = 0x5a;
  struct alignas(64) Line {
    char bytes[64];
  };
  struct Work {
    Model32& model;
    Call call;
    double loss;
  };

  char* begin() { return lines_.data()->bytes; }
  char* state() { return begin() + kGuard * 64; }
  char* end() { return begin() + lines_.size() * 64; }

  double run(const Batch& batch, bool backward, const AdamStep* adam) {
    Work work{*this,
              {&batch, backward, adam, nullptr, 0, alone ? 1 : team_.size(),
               [](void* team) { static_cast<Team*>(team)->barrier(); }, &team_},
              0};
    const auto part = [](void* arg, int rank) {
      Work& w = *static_cast<Work*>(arg);
      Call call = w.call;
      call.rank = rank;
      const double loss = w.model.kernels_.run(w.model.state(), call);
      if (rank == 0) w.loss = loss;
    };
    if (alone) part(&work, 0);
    else team_.run(part, &work);
    return work.loss;
  }

  const Kernels& kernels_;
  size_t bytes_;
  std::vector<Line> lines_;
  Team team_;
};

Values read(const Engine& engine, Slot slot, const Config& config) {
  Values values(static_cast<size_t>(parameter_count(config)), NAN);
  engine.read(slot, values.data());
  return values;
}

// f32 numbers, so that every engine starts from the same.
Values random_values(const Config& config, Random& random, float deviation) {
  Values values;
  for (int64_t i = parameter_count(config); i > 0; --i) values.push_back(random.normal(deviation));
  return values;
}

bool same(const Values& a, const Values& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

double norm(const Values& values, int64_t first, int64_t count) {
  double sum = 0;
  for (int64_t i = first; i < first + count; ++i) sum += values[i] * values[i];
  return std::sqrt(sum);
}

// Each tensor, in relative L2. Its elements come through some 30 stages that round once each or,
// in sums of n terms, about sqrt(n) times: 30 sqrt(64) kUnit is near 1e-5. Where large terms cancel
// in all of a tensor, as in front of a norm over one or two features, a hundredth of that counts of
// the size of all tensors.
void expect_tensors(const Config& config, const Values& got, const Values& want, double bound,
                    const char* what) {
  Values difference(got.size());
  for (size_t i = 0; i < got.size(); ++i) difference[i] = got[i] - want[i];
  const double all = norm(want, 0, static_cast<int64_t>(want.size()));
  for (const Tensor& t : tensors(config)) {
    const int64_t n = t.rows * t.cols;
    const double error = norm(difference, t.offset, n), size = norm(want, t.offset, n);
    const double limit = bound * (size + 0.01 * all);
    worst = std::fmax(worst, error / limit);
    if (!check(error <= limit, what) && failures <= 20)
      std::printf("  %s: off by %.3g of %.3g\n", t.name.c_str(), error, size);
  }
}

// Losses are differences of numbers around 1 or more, however small they are themselves.
void expect_loss(double got, double want, double bound, const char* what) {
  const double error = std::fabs(got - want), limit = bound * std::fmax(1, std::fabs(want));
  worst = std::fmax(worst, error / limit);
  if (!check(error <= limit, what) && failures <= 20)
    std::printf("  got %.9g, want %.9g\n", got, want);
}

constexpr double kGradientBound = 1e-5, kLossBound = 1e-6;
constexpr double kBeta1 = 0.85, kBeta2 = 0.99;

AdamStep adam_step(int step) {
  return {0.01 * (1 - step / 10.0),       kBeta1, kBeta2, 1 - std::pow(kBeta1, step + 1),
          1 - std::pow(kBeta2, step + 1), 1e-8};
}

const Config kConfigs[] = {
    // n_layer, n_embd, n_head, block_size, vocab_size
    {1, 16, 4, 16, 27}, {1, 64, 4, 16, 27}, {1, 128, 4, 16, 27}, {2, 20, 4, 8, 27},
    {3, 24, 2, 24, 40}, {2, 24, 3, 5, 17},  {1, 20, 5, 16, 33},  {1, 1, 1, 1, 2},
    {2, 3, 1, 3, 3},    {1, 40, 8, 4, 100}, {2, 32, 1, 9, 16},   {1, 32, 2, 64, 9},
    {2, 48, 3, 65, 17}, {1, 20, 1, 130, 9}, {1, 13, 1, 257, 5},
};

struct Case {
  Config config;
  int batch_size;
  bool sharing;
  Random random;
  Corpus corpus;
  Values parameters;

  Case(const Config& c, int size, bool share)
      : config(c), batch_size(size), sharing(share),
        corpus(random_corpus(random, 23, c.vocab_size, c.block_size + 3)),
        parameters(random_values(c, random, 1 / std::sqrt(static_cast<float>(c.n_embd)))) {
    at_case("L %d, C %d, H %d, T %d, V %d, batch %d%s", c.n_layer, c.n_embd, c.n_head, c.block_size,
            c.vocab_size, size, share ? ", sharing" : "");
  }
  Batch batch(int step = 0) const {
    return corpus.batch(int64_t{step} * batch_size % corpus.count(), batch_size);
  }
  Setup setup() const {
    Setup setup{config, batch_size, sharing, true, kBeta1, kBeta2};
    setup.longest = 0;
    for (int64_t d = 0; d < corpus.count(); ++d)
      setup.longest = std::max(setup.longest, corpus.documents().positions(d, config.block_size));
    return setup;
  }
  std::unique_ptr<Model32> model(const Kernels& kernels, int threads = 1) const {
    auto made = std::make_unique<Model32>(kernels, setup(), threads);
    made->write(Slot::parameter, parameters.data());
    return made;
  }
};

bool few = false;

bool chosen(const Config& config, int batch_size, bool sharing) {
  if (config.block_size >= 64) return sharing && batch_size <= (few ? 1 : 2);
  if (few && config.n_embd >= 64) return !sharing && batch_size == 1;
  return (!few && config.n_embd < 64) || batch_size == (sharing ? 17 : 1);
}

template <class F>
void each_case(F f) {
  for (const Config& config : kConfigs)
    for (const int batch_size : {1, 2, 16, 17})
      for (const bool sharing : {false, true})
        if (chosen(config, batch_size, sharing)) f(Case(config, batch_size, sharing));
  f(Case({1, 36, 2, 30, 9}, 67, false));  // more rows than take turns with the weights
}

// ---- The tests ----------------------------------------------------------------------------------

// Two f64 implementations that have nothing in common: sums of some hundred terms apart.
void test_reference() {
  for (const Config& config : kConfigs) {
    if (config.n_embd > 40) continue;
    const Case c(config, 5, false);
    ReferenceEngine reference(config, 5);
    TapeEngine<double> tape(config);
    reference.write(Slot::parameter, c.parameters.data());
    tape.write(Slot::parameter, c.parameters.data());
    for (int step = 0; step < 2; ++step) {
      expect_loss(reference.gradient(c.batch(step)), tape.gradient(c.batch(step)), 1e-13,
                  "loss of reference and tape");
      expect_tensors(config, read(reference, Slot::gradient, config),
                     read(tape, Slot::gradient, config), 1e-12, "gradients of reference and tape");
      reference.step(c.batch(step), adam_step(step));
      tape.step(c.batch(step), adam_step(step));
    }
    expect_tensors(config, read(reference, Slot::parameter, config),
                   read(tape, Slot::parameter, config), 1e-9, "parameters of reference and tape");
  }
  report("reference");
}

void test_gradients(const Kernels& kernels) {
  each_case([&](const Case& c) {
    ReferenceEngine reference(c.config, c.batch_size);
    reference.write(Slot::parameter, c.parameters.data());
    const auto model = c.model(kernels);
    for (int step = 0; step < 2; ++step) {
      const double loss = model->gradient(c.batch(step));
      expect_loss(loss, reference.gradient(c.batch(step)), kLossBound, "loss");
      CHECK(model->loss(c.batch(step)) == loss);
      expect_tensors(c.config, read(*model, Slot::gradient, c.config),
                     read(reference, Slot::gradient, c.config), kGradientBound, "gradient");
    }
    CHECK(same(read(*model, Slot::parameter, c.config), c.parameters));
    const Values zero(c.parameters.size());
    CHECK(same(read(*model, Slot::first_moment, c.config), zero));
    CHECK(same(read(*model, Slot::second_moment, c.config), zero));
    CHECK(model->guards_intact());
  });
  // A context for long documents, trained on short ones and then asked for long ones.
  for (const Config& config : {Config{2, 32, 2, 80, 9}, Config{1, 48, 3, 67, 9}}) {
    const Case longer(config, 9, true);
    Case c(config, 9, true);
    c.corpus = random_corpus(c.random, 23, config.vocab_size, 30);
    ReferenceEngine reference(config, c.batch_size);
    reference.write(Slot::parameter, c.parameters.data());
    const auto model = c.model(kernels);
    for (const Batch& batch : {c.batch(), longer.batch(), c.batch(1)}) {
      expect_loss(model->gradient(batch), reference.gradient(batch), kLossBound, "loss");
      expect_tensors(config, read(*model, Slot::gradient, config),
                     read(reference, Slot::gradient, config), kGradientBound, "gradient");
    }
    CHECK(model->guards_intact());
  }
  report("gradients");
}

// Two steps, from moments that are there already: from zero, the first update of an element is by
// the sign of its gradient alone, however small and however uncertain that is.
void test_steps(const Kernels& kernels) {
  each_case([&](Case c) {
    ReferenceEngine reference(c.config, c.batch_size);
    const auto model = c.model(kernels);
    reference.write(Slot::parameter, c.parameters.data());
    Values m = random_values(c.config, c.random, 0.1f), v;
    for (double x : m) v.push_back(0.01 + x * x);
    for (Engine* engine : {static_cast<Engine*>(&reference), static_cast<Engine*>(model.get())}) {
      engine->write(Slot::first_moment, m.data());
      engine->write(Slot::second_moment, v.data());
    }
    for (int step = 0; step < 2; ++step)
      expect_loss(model->step(c.batch(step), adam_step(step)),
                  reference.step(c.batch(step), adam_step(step)), kLossBound, "loss of a step");
    Values got = read(*model, Slot::parameter, c.config);
    Values want = read(reference, Slot::parameter, c.config);
    for (size_t i = 0; i < got.size(); ++i) {
      // An update is some 1e-2 of the parameter, whose rounding in f32 is then 1e-5 of it or less.
      got[i] -= c.parameters[i];
      want[i] -= c.parameters[i];
    }
    expect_tensors(c.config, got, want, 4 * kGradientBound, "updates");
    for (const Slot slot : {Slot::first_moment, Slot::second_moment})
      expect_tensors(c.config, read(*model, slot, c.config), read(reference, slot, c.config),
                     kGradientBound, "moments");
    CHECK(model->guards_intact());
  });
  report("steps");
}

// Parameters come back as they were written. Moments may be kept scaled, and then round; but what
// was once read is kept exactly, so that a model can be saved and go on as if nothing had been.
void test_round_trip(const Kernels& kernels) {
  const Slot slots[] = {Slot::parameter, Slot::first_moment, Slot::second_moment};
  for (const Config& config : kConfigs) {
    const Case c(config, 3, true);
    const auto first = c.model(kernels), second = c.model(kernels);
    CHECK(same(read(*first, Slot::parameter, config), c.parameters));
    for (int step = 0; step < 2; ++step) first->step(c.batch(step), adam_step(step));
    for (const Slot slot : slots) second->write(slot, read(*first, slot, config).data());
    CHECK(first->step(c.batch(2), adam_step(2)) == second->step(c.batch(2), adam_step(2)));
    for (const Slot slot : slots)
      CHECK(same(read(*first, slot, config), read(*second, slot, config)));
  }
}

// However many threads there are, every bit is the same.
void test_threads(const Kernels& kernels) {
  if (!kernels.full) return;
  each_case([&](const Case& c) {
    if (c.batch_size == 2 || c.batch_size == 16) return;
    const auto one = c.model(kernels);
    one->gradient(c.batch());
    const Values gradient = read(*one, Slot::gradient, c.config);
    const double loss = one->step(c.batch(), adam_step(0));
    const Values parameters = read(*one, Slot::parameter, c.config);
    for (const int threads : {2, 5}) {
      if (few && threads > 2) continue;  // more than cores: they wait for one another
      const auto many = c.model(kernels, threads);
      CHECK(many->gradient(c.batch()) == loss);
      CHECK(same(read(*many, Slot::gradient, c.config), gradient));
      CHECK(many->step(c.batch(), adam_step(0)) == loss);
      CHECK(same(read(*many, Slot::parameter, c.config), parameters));
      CHECK(many->guards_intact());
    }
  });
}

// Skipping zeros changes no bit: not of losses, gradients, parameters or moments, however dense the
// hidden values are, on however many threads, and whether somebody reads in the middle or not. The
// learning rate kills units; some of them then stand still and wake again.
void test_zeros(const Kernels& kernels) {
  if (!kernels.full) return;
  const Slot slots[] = {Slot::parameter, Slot::first_moment, Slot::second_moment};
  double least = 1, most = 0, resting = 0;
  for (const Config& config :
       {Config{1, 16, 4, 16, 27}, Config{1, 32, 4, 16, 27}, Config{2, 20, 4, 8, 27},
        Config{3, 6, 2, 16, 27}, Config{2, 48, 1, 5, 9}, Config{2, 128, 4, 8, 27},
        Config{1, 144, 4, 16, 27}})
    for (const int batch_size : {1, 9, 40}) {  // 40: more rows than the second cache keeps
      if (batch_size == 40 && config.n_embd < 144) continue;
      if (batch_size == 9 && config.n_embd == 128) continue;
      if (few && (batch_size == 1 ? config.n_embd != 48 : batch_size != 40)) continue;
      Case c(config, batch_size, batch_size < 40);
      const auto skipping = c.model(kernels), threaded = c.model(kernels, few ? 2 : 3);
      Setup all = c.setup();
      all.skip_zeros = false;
      Model32 every(kernels, all, 1);
      every.write(Slot::parameter, c.parameters.data());
      // Of 144 features the first twelve steps go from half of the pairs to a hundredth.
      const int steps = batch_size == 1 ? 400 : config.n_embd < 144 ? 120 : few ? 12 : 70;
      const int middle = std::min(30, steps / 2);
      for (int step = 0; step < steps; ++step) {
        AdamStep adam = adam_step(step);
        adam.rate = 0.03 * (1 - step / static_cast<double>(steps));
        if (step == 250 || step == 50) adam.rate *= 20;  // not falling: nobody may stand still
        threaded->alone = step % 20 < 10;
        if (step % 30 == 17)
          CHECK(skipping->loss(c.batch(step % 5)) == every.loss(c.batch(step % 5)));
        const double loss = skipping->step(c.batch(step % 7), adam);
        CHECK(every.step(c.batch(step % 7), adam) == loss);
        CHECK(threaded->step(c.batch(step % 7), adam) == loss);
        const Activity now = skipping->activity();
        least = std::fmin(least, now.values);
        most = std::fmax(most, now.values);
        resting = std::fmax(resting, now.resting);
        if (step == middle) {  // read in the middle, and a gradient that moves nothing
          CHECK(skipping->gradient(c.batch(3)) == every.gradient(c.batch(3)));
          CHECK(same(read(*skipping, Slot::gradient, config), read(every, Slot::gradient, config)));
        }
        if (step == middle || step == 300 || step == steps - 1)
          for (const Slot slot : slots) {
            const Values want = read(every, slot, config);
            CHECK(same(read(*skipping, slot, config), want));
            if (step == steps - 1) CHECK(same(read(*threaded, slot, config), want));
          }
        if (step == 200)  // as a resumed training does, and one at a time
          for (const Slot slot : slots) skipping->write(slot, read(every, slot, config).data());
      }
      CHECK(skipping->guards_intact() && threaded->guards_intact());
    }
  at_case("over all configurations: %.3f to %.3f active, at most %.3f resting", least, most,
          resting);
  CHECK(least < 0.1 && most > 0.4 && resting > 0.1);
}

// An infinite weight of a unit that is active nowhere: zero times infinity is no number, which a
// training that skips the unit must show all the same.
void test_infinite_weights(const Kernels& kernels) {
  if (!kernels.full) return;
  for (const int n_embd : {16, 32, 64})
    for (const int batch_size : {1, 4}) {
      const Case c(Config{1, n_embd, 4, 16, 27}, batch_size, true);
      const auto model = c.model(kernels);
      for (const Tensor& tensor : tensors(c.config)) {
        if (tensor.name != "layer0.mlp_fc2") continue;
        Values values = c.parameters;
        for (const Tensor& fc1 : tensors(c.config))  // unit 0 is never active
          if (fc1.name == "layer0.mlp_fc1")
            for (int i = 0; i < fc1.rows * fc1.cols; ++i)  // few are, so that zeros are skipped
              if (i / fc1.cols % 8 != 7) values[fc1.offset + i] = 0;
        values[tensor.offset] = HUGE_VAL;
        model->write(Slot::parameter, values.data());
        const double loss = model->loss(c.batch());
        CHECK(!std::isfinite(loss));
      }
    }
}

// A model that has seen other batches, and NaN everywhere, and is then given good values again
// computes what a new one computes.
void test_nothing_stays(const Kernels& kernels) {
  for (const Config& config : kConfigs) {
    const Case c(config, 4, true);
    const auto fresh = c.model(kernels), used = c.model(kernels);
    const Values nan(c.parameters.size(), NAN), zero(c.parameters.size());
    used->step(c.batch(3), adam_step(0));
    used->write(Slot::parameter, nan.data());
    CHECK(!(used->step(c.batch(1), adam_step(1)) < INFINITY));
    used->write(Slot::parameter, c.parameters.data());
    used->write(Slot::first_moment, zero.data());
    used->write(Slot::second_moment, zero.data());
    CHECK(used->gradient(c.batch()) == fresh->gradient(c.batch()));
    CHECK(same(read(*used, Slot::gradient, config), read(*fresh, Slot::gradient, config)));
    CHECK(used->step(c.batch(), adam_step(0)) == fresh->step(c.batch(), adam_step(0)));
    CHECK(same(read(*used, Slot::parameter, config), read(*fresh, Slot::parameter, config)));
  }
}

// What is not a number must show. A NaN in any parameter that the batch uses makes the loss NaN; an
// infinity makes it what it is in f64, where a logit of -Inf may be harmless. Subnormal parameters
// are taken for zero.
void test_not_finite(const Kernels& kernels) {
  for (const Config& config : kConfigs) {
    if (config.n_embd > (few ? 24 : 40) || (few && config.block_size > 64)) continue;
    Case c(config, 1, true);
    // Every token and every position; where T is 1, documents stop at BOS.
    const int32_t bos = config.vocab_size - 1;
    std::vector<int32_t> document{bos};
    for (int i = 0; i < config.block_size + 1; ++i) document.push_back(i % config.vocab_size);
    c.corpus = {};
    c.corpus.add(document);
    for (int32_t token = 0; token < bos; token += 2) c.corpus.add({bos, token, token + 1, bos});
    c.batch_size = static_cast<int>(c.corpus.count());
    const bool all_tokens = config.block_size > 2;
    ReferenceEngine reference(config, c.batch_size);
    const auto model = c.model(kernels);
    char configuration[sizeof context];
    std::memcpy(configuration, context, sizeof context);
    for (const Tensor& tensor : tensors(config))
      for (const double value : {static_cast<double>(NAN), HUGE_VAL, -HUGE_VAL})
        for (const int64_t at : {int64_t{0}, tensor.rows * tensor.cols - 1}) {
          at_case("%.180s, %g at %d of %s", configuration, value, static_cast<int>(at),
                  tensor.name.c_str());
          const bool used = tensor.name != "wte" || all_tokens || at / tensor.cols == bos;
          Values values = c.parameters;
          values[tensor.offset + at] = value;
          model->write(Slot::parameter, values.data());
          const double got = model->loss(c.batch());
          if (value != value && used) {
            CHECK(got != got);
            continue;
          }
          reference.write(Slot::parameter, values.data());
          const double want = reference.loss(c.batch());
          if (std::isfinite(want))
            expect_loss(got, want, 10 * kLossBound, "loss with what does not count");
          else CHECK(!std::isfinite(got));
        }

    at_case("%.180s, subnormal", configuration);
    const Values tiny(c.parameters.size(), 1e-40);
    model->write(Slot::parameter, tiny.data());
    expect_loss(model->gradient(c.batch()), std::log(config.vocab_size), kLossBound, "subnormal");
    for (double g : read(*model, Slot::gradient, config))
      if (!CHECK(std::isfinite(g))) break;
    CHECK(model->guards_intact());
  }
  worst = 0;
}

// How the CPU rounds and what it flushes, for this thread; flags of what happened are not included.
uint64_t control_register() {
#if defined(__x86_64__)
  return _mm_getcsr() & ~0x3fu;
#elif defined(__aarch64__)
  uint64_t fpcr;
  __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
  return fpcr;
#else
  return 0;
#endif
}

void test_control_register(const Kernels& kernels) {
  const Case c(kConfigs[0], 4, true);
  const auto model = c.model(kernels);
  const uint64_t before = control_register();
  model->loss(c.batch());
  CHECK(control_register() == before);
  model->gradient(c.batch());
  CHECK(control_register() == before);
  model->step(c.batch(), adam_step(0));
  CHECK(control_register() == before);
}

}  // namespace
}  // namespace microgpt

int main(int count, char** arguments) {
  using namespace microgpt;
  constexpr int kSkipped = 77;  // what ctest is told to read as skipped
  few = count == 3 && arguments[2] == std::string("few");
  const std::string name = count == 2 || few ? arguments[1] : "";
  if (name == "reference") {
    test_reference();
    return result();
  }
  for (const Row& row : kRows) {
    if (name != row.name || row.kernels == nullptr) continue;
    if (!cpu_has(row.needs)) {
      std::printf("skipped: this CPU lacks what %s needs\n", row.name);
      return kSkipped;
    }
    const Kernels& kernels = *row.kernels;
    test_control_register(kernels);  // first: what it looks for would stay
    test_gradients(kernels);
    test_steps(kernels);
    test_round_trip(kernels);
    test_threads(kernels);
    test_zeros(kernels);
    test_infinite_weights(kernels);
    test_nothing_stays(kernels);
    test_not_finite(kernels);
    return result();
  }
  std::printf("usage: test_model reference");
  for (const Row& row : kRows)
    if (row.kernels != nullptr) std::printf(" | %s", row.name);
  std::printf("\n");
  return 2;
}
