// Python bindings: argument checks, GIL release, nothing else.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <stdexcept>

#include "build.h"
#include "denormals.h"
#include "generator.h"
#include "params.h"
#include "peak.h"
#include "text.h"
#include "trainer.h"

namespace py = pybind11;
using namespace microgpt;

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPatience(100);  // of a signal, until Python is asked for it

using Ints = py::array_t<int32_t, py::array::c_style>;
using Longs = py::array_t<int64_t, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

template <class T>
std::vector<T> vector_of(const py::array_t<T, py::array::c_style>& array, const char* name) {
  if (array.ndim() != 1) throw py::value_error(std::string(name) + " must have one dimension");
  return {array.data(), array.data() + array.size()};
}

Documents documents_of(const Ints& tokens, const Longs& offsets) {
  if (tokens.ndim() != 1 || offsets.ndim() != 1)
    throw py::value_error("tokens and offsets must have one dimension");
  if (offsets.size() < 2) throw py::value_error("there are no documents");
  if (offsets.data()[offsets.size() - 1] != tokens.size())
    throw py::value_error("offsets must end with the number of tokens");
  return {tokens.data(), offsets.data(), offsets.size() - 1};
}

// What Python holds of a T. Calls work without the GIL or on what such a call changes, so only one
// of them may be inside; see Alone.
template <class T>
struct Object : T {
  using T::T;
  std::atomic<bool> busy{false};
};
using PyGenerator = Object<Generator>;

// The documents are used where they lie in the arrays: they may be most of the memory.
struct PyTrainer : Object<Trainer> {
  PyTrainer(const std::string& engine, const Config& config, const Settings& settings,
            const Execution& execution, Ints tokens_, Longs offsets_)
      : Object(engine, config, settings, execution, documents_of(tokens_, offsets_)),
        tokens(std::move(tokens_)),
        offsets(std::move(offsets_)) {}

  const Ints tokens;
  const Longs offsets;
};

class Alone {
 public:
  template <class T>
  explicit Alone(Object<T>& object) : busy_(object.busy) {
    if (busy_.exchange(true))
      throw std::runtime_error("this trainer or model is at work in another thread; give each its own");
  }
  ~Alone() { busy_ = false; }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;

 private:
  std::atomic<bool>& busy_;
};

Slot slot_of(const std::string& name) {
  if (name == "parameter") return Slot::parameter;
  if (name == "first_moment") return Slot::first_moment;
  if (name == "second_moment") return Slot::second_moment;
  throw py::value_error("slot '" + name +
                        "' is unknown; it is parameter, first_moment or second_moment");
}

// The state of Python's random.Random, which goes on where it ends up.
using Words = py::array_t<uint32_t, py::array::c_style>;

uint32_t* state_of(Words& state) {
  if (state.ndim() != 1 || state.size() != 625) throw py::value_error("state must hold 625 words");
  return state.mutable_data();
}

// Calls use() with a Text of the documents, whatever the width of their characters. Arrays are as
// pymicrogpt.corpus.Documents makes them.
template <class Use>
auto with_text(const py::array& text, const Longs& offsets, const std::optional<Words>& order,
               Use use) {
  const int64_t count = order ? order->size() : offsets.size() - 1;
  const uint32_t* indices = order ? order->data() : nullptr;
  switch (text.itemsize()) {
    case 1:
      return use(Text<uint8_t>{static_cast<const uint8_t*>(text.data()), offsets.data(), indices,
                               count});
    case 2:
      return use(Text<uint16_t>{static_cast<const uint16_t*>(text.data()), offsets.data(), indices,
                                count});
    default:
      return use(Text<uint32_t>{static_cast<const uint32_t*>(text.data()), offsets.data(), indices,
                                count});
  }
}

py::array_t<bool> flags(const std::vector<bool>& bits) {
  py::array_t<bool> array(static_cast<py::ssize_t>(bits.size()));
  std::copy(bits.begin(), bits.end(), array.mutable_data());
  return array;
}

void check_steps(const Trainer& trainer, int64_t num_steps) {
  const int64_t left = trainer.settings().num_steps - trainer.steps_done;
  if (num_steps < 0) throw py::value_error("num_steps must not be negative");
  if (num_steps > left)
    throw py::value_error("cannot run " + std::to_string(num_steps) + " steps: " +
                          std::to_string(left) + " of num_steps=" +
                          std::to_string(trainer.settings().num_steps) + " are left");
}

py::array_t<double> run(PyTrainer& trainer, int64_t num_steps) {
  check_steps(trainer, num_steps);
  py::array_t<double> losses(num_steps);
  double* loss = losses.mutable_data();
  int64_t done = 0;
  while (done < num_steps) {
    {
      const Alone alone(trainer);
      check_steps(trainer, num_steps - done);  // a signal's handler may have run some
      py::gil_scoped_release release;
      // Back to Python ten times a second, so that Ctrl-C works; the clock is read every 16 steps.
      const auto stop = Clock::now() + kPatience;
      do {
        loss[done++] = trainer.step();
      } while (done < num_steps && (done % 16 != 0 || Clock::now() < stop));
    }
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
  return losses;
}

void check_flat(const Doubles& values, const Config& config) {
  if (values.ndim() != 1 || values.size() != parameter_count(config))
    throw py::value_error("values must be flat, of " + std::to_string(parameter_count(config)) +
                          " elements");
}

Doubles flat(const Trainer& trainer) { return Doubles(parameter_count(trainer.config())); }

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled engines of pymicrogpt.";

  m.def("engines", [] {
    py::list list;
    for (const EngineRecord& r : engines())
      list.append(py::dict(
          py::arg("name") = r.name, py::arg("available") = r.available,
          py::arg("reason") = r.reason, py::arg("isa") = r.isa, py::arg("lanes") = r.lanes,
          py::arg("dtype") = r.dtype, py::arg("label") = r.label, py::arg("arch") = r.arch,
          py::arg("supported") = r.supported, py::arg("simd") = r.simd,
          py::arg("prefix_sharing") = r.prefix_sharing, py::arg("skip_zeros") = r.skip_zeros,
          py::arg("threads") = r.threads, py::arg("generates") = r.generates,
          py::arg("phases") = r.phases));
    return list;
  });
  m.def("peak",
        [](const std::string& engine, int runs) {
          if (runs < 1) throw std::invalid_argument("runs must be at least 1");
          Peak peak;
          {
            py::gil_scoped_release release;
            peak = measure_peak(engine, runs);
          }
          return py::dict(py::arg("fma_flops") = peak.fma_flops, py::arg("l1_bytes") = peak.l1_bytes,
                          py::arg("l2_bytes") = peak.l2_bytes);
        },
        py::arg("engine"), py::arg("runs") = 80);
  m.def("flush_denormals",
        [](bool on) {
          thread_local std::optional<FlushDenormals> flushing;
          if (on && !flushing) flushing.emplace();
          if (!on) flushing.reset();
        },
        py::arg("on"));
  m.def("build_info", [] {
    return py::dict(py::arg("compiler") = PYMICROGPT_COMPILER,
                    py::arg("flags") = PYMICROGPT_BUILD_FLAGS);
  });

  m.def("shuffled",
        [](Words state, uint32_t count) {
          std::vector<uint32_t> order;
          uint32_t* words = state_of(state);
          {
            py::gil_scoped_release release;
            order = shuffled(words, count);
          }
          return Words(static_cast<py::ssize_t>(order.size()), order.data());
        },
        py::arg("state").noconvert(), py::arg("count"));
  m.def("gauss",
        [](Words state, std::optional<double> waiting, double sigma, int64_t count) {
          Doubles numbers(count);
          double next = waiting.value_or(std::nan(""));
          uint32_t* words = state_of(state);
          double* data = numbers.mutable_data();
          {
            py::gil_scoped_release release;
            gauss(words, next, sigma, data, count);
          }
          return py::make_tuple(numbers, std::isnan(next) ? py::none() : py::object(py::float_(next)));
        },
        py::arg("state").noconvert(), py::arg("waiting"), py::arg("sigma"), py::arg("count"));
  m.def("encode",
        [](const py::array& text, const Longs& offsets, const std::optional<Words>& order,
           const Ints& ids, int32_t bos, int64_t characters) {
          return with_text(text, offsets, order, [&](const auto& documents) {
            Ints tokens(characters + 2 * documents.count);
            Longs ends(documents.count + 1);
            int32_t* token = tokens.mutable_data();
            int64_t* end = ends.mutable_data();
            int64_t unknown;
            {
              py::gil_scoped_release release;
              unknown = encode(documents, ids.data(), ids.size(), bos, token, end);
            }
            return py::make_tuple(tokens, ends, unknown);
          });
        },
        py::arg("text"), py::arg("offsets"), py::arg("order"), py::arg("ids"), py::arg("bos"),
        py::arg("characters"));
  m.def("seen",
        [](const py::array& text, const Longs& offsets, const std::optional<Words>& order) {
          return with_text(text, offsets, order, [&](const auto& documents) {
            std::vector<bool> bits;
            {
              py::gil_scoped_release release;
              bits = seen(documents);
            }
            return flags(bits);
          });
        },
        py::arg("text"), py::arg("offsets"), py::arg("order"));
  m.def("framed",
        [](const py::array& text, const Longs& offsets, const std::optional<Words>& order,
           int64_t first, int64_t last) {
          return with_text(text, offsets, order, [&](const auto& documents) {
            return py::bytes(framed(documents, first, last));
          });
        },
        py::arg("text"), py::arg("offsets"), py::arg("order"), py::arg("first"), py::arg("last"));
  m.def("held_out",
        [](const py::array& text, const Longs& offsets, const std::optional<Words>& order,
           Words state, int64_t wanted) {
          uint32_t* words = state_of(state);
          return with_text(text, offsets, order, [&](const auto& documents) {
            std::vector<bool> bits;
            {
              py::gil_scoped_release release;
              bits = held_out(documents, words, wanted);
            }
            return flags(bits);
          });
        },
        py::arg("text"), py::arg("offsets"), py::arg("order"), py::arg("state").noconvert(),
        py::arg("wanted"));

  py::class_<PyGenerator>(m, "Generator")
      .def(py::init([](const std::string& engine, int n_layer, int n_embd, int n_head,
                       int block_size, int vocab_size, int64_t documents) {
             return std::make_unique<PyGenerator>(
                 engine, Config{n_layer, n_embd, n_head, block_size, vocab_size}, documents);
           }),
           py::arg("engine"), py::kw_only(), py::arg("n_layer"), py::arg("n_embd"),
           py::arg("n_head"), py::arg("block_size"), py::arg("vocab_size"), py::arg("documents"))
      .def("load",
           [](PyGenerator& g, const Doubles& parameters) {
             check_flat(parameters, g.config());
             const Alone alone(g);
             g.load(parameters.data());
           },
           py::arg("parameters"))
      .def("generate",
           [](PyGenerator& g, int64_t first, int64_t count, double temperature, uint64_t seed,
              int top_k, const Ints& prompt) {
             if (first < 0 || count < 0) throw py::value_error("first and count must not be negative");
             if (!(1.0 / temperature > 0.0 && 1.0 / temperature <= std::numeric_limits<float>::max()))
               throw py::value_error("temperature must have a reciprocal in float32");
             if (top_k < 0) throw py::value_error("top_k must not be negative");
             const std::vector<int32_t> start = vector_of(prompt, "prompt");
             if (start.size() > static_cast<size_t>(g.config().block_size))
               throw py::value_error("prompt is longer than block_size");
             for (int32_t token : start)
               if (token < 0 || token >= g.config().vocab_size - 1)
                 throw py::value_error("prompt must hold tokens other than BOS");
             std::vector<int32_t> documents;
             {
               const Alone alone(g);
               py::gil_scoped_release release;
               documents = g.generate(first, count, temperature, seed, top_k, start);
             }
             return py::array_t<int32_t>(static_cast<py::ssize_t>(documents.size()),
                                         documents.data());
           },
           py::arg("first"), py::arg("count"), py::arg("temperature"), py::arg("seed"),
           py::arg("top_k"), py::arg("prompt"));

  py::class_<PyTrainer>(m, "Trainer")
      .def(py::init([](const std::string& engine, const Ints& tokens, const Longs& offsets,
                       int n_layer, int n_embd, int n_head, int block_size, int vocab_size,
                       int batch_size, double learning_rate, double beta1, double beta2, double eps,
                       int64_t num_steps, int threads, bool prefix_sharing,
                       bool skip_zeros) {
             return std::make_unique<PyTrainer>(
                 engine, Config{n_layer, n_embd, n_head, block_size, vocab_size},
                 Settings{batch_size, learning_rate, beta1, beta2, eps, num_steps},
                 Execution{prefix_sharing, skip_zeros, threads}, tokens, offsets);
           }),
           py::arg("engine"), py::arg("tokens"), py::arg("offsets"), py::kw_only(),
           py::arg("n_layer"), py::arg("n_embd"), py::arg("n_head"), py::arg("block_size"),
           py::arg("vocab_size"), py::arg("batch_size"), py::arg("learning_rate"),
           py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("num_steps"),
           py::arg("threads"), py::arg("prefix_sharing"),
           py::arg("skip_zeros") = true)
      .def_property_readonly("engine", [](const PyTrainer& t) { return t.record().name; })
      .def_property_readonly("isa", [](const PyTrainer& t) { return t.record().isa; })
      .def_property_readonly("lanes", [](const PyTrainer& t) { return t.record().lanes; })
      .def_property_readonly("dtype", [](const PyTrainer& t) { return t.record().dtype; })
      .def_property_readonly("nbytes", [](PyTrainer& t) { return t.engine().bytes(); })
      .def_property_readonly("threads", [](PyTrainer& t) { return t.engine().threads(); })
      .def_property(
          "step", [](const PyTrainer& t) { return t.steps_done; },
          [](PyTrainer& t, int64_t step) {
            if (step < 0 || step > t.settings().num_steps)
              throw py::value_error("step must lie in 0 .. num_steps = " +
                                    std::to_string(t.settings().num_steps));
            const Alone alone(t);
            t.steps_done = step;
          })
      .def("run", &run, py::arg("num_steps"))
      .def("profile",
           [](PyTrainer& t, int64_t num_steps) {
             std::vector<double> seconds;
             {
               const Alone alone(t);
               check_steps(t, num_steps);
               py::gil_scoped_release release;
               seconds = t.profile(num_steps);
             }
             py::dict phases;
             for (size_t i = 0; i < seconds.size(); ++i) phases[kPhaseNames[i]] = seconds[i];
             return phases;
           },
           py::arg("num_steps"))
      .def_property_readonly("activity", [](PyTrainer& t) -> std::optional<py::dict> {
        if (!t.record().skip_zeros) return std::nullopt;
        const Alone alone(t);
        const Activity a = t.engine().activity();
        return py::dict(py::arg("values") = a.values, py::arg("units") = a.units,
                        py::arg("resting") = a.resting);
      })
      .def("gradients",
           [](PyTrainer& t) {
             Doubles gradients = flat(t);
             double* data = gradients.mutable_data();
             double loss;
             {
               const Alone alone(t);
               py::gil_scoped_release release;
               loss = t.gradient(data);
             }
             return py::make_tuple(loss, gradients);
           })
      .def("loss",
           [](PyTrainer& t, const Ints& tokens, const Longs& offsets) {
             const Documents documents = documents_of(tokens, offsets);
             const Alone alone(t);
             py::gil_scoped_release release;
             auto next = Clock::now() + kPatience;
             return t.loss(documents, [&] {
               if (Clock::now() < next) return;
               py::gil_scoped_acquire acquire;
               if (PyErr_CheckSignals() != 0) throw py::error_already_set();
               next = Clock::now() + kPatience;
             });
           },
           py::arg("tokens"), py::arg("offsets"))
      .def("get",
           [](PyTrainer& t, const std::string& slot) {
             Doubles values = flat(t);
             const Alone alone(t);
             t.engine().read(slot_of(slot), values.mutable_data());
             return values;
           },
           py::arg("slot"))
      .def("set",
           [](PyTrainer& t, const std::string& slot, const Doubles& values) {
             check_flat(values, t.config());
             const Alone alone(t);
             t.engine().write(slot_of(slot), values.data());
           },
           py::arg("slot"), py::arg("values"));
}
