#include "../trainer.h"

#include <chrono>
#include <memory>
#include <vector>

#include "bindings.h"

namespace microgpt {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPatience(100);  // of a signal, until Python is asked for it

Documents documents_of(const Ints& tokens, const Longs& offsets) {
  if (tokens.ndim() != 1 || offsets.ndim() != 1)
    throw py::value_error("tokens and offsets must have one dimension");
  if (offsets.size() < 2) throw py::value_error("there are no documents");
  if (offsets.data()[offsets.size() - 1] != tokens.size())
    throw py::value_error("offsets must end with the number of tokens");
  return {tokens.data(), offsets.data(), offsets.size() - 1};
}

// The documents are used where they lie in the arrays: they may be most of the memory.
struct PyTrainer : Object<Trainer> {
  PyTrainer(const std::string& engine, const Config& config, const Settings& settings,
            const Execution& execution, Ints tokens_, Longs offsets_)
      : Object(engine, config, settings, execution, documents_of(tokens_, offsets_)),
        tokens(std::move(tokens_)), offsets(std::move(offsets_)) {}

  const Ints tokens;
  const Longs offsets;
};

Slot slot_of(const std::string& name) {
  if (name == "parameter") return Slot::parameter;
  if (name == "first_moment") return Slot::first_moment;
  if (name == "second_moment") return Slot::second_moment;
  throw py::value_error("slot '" + name +
                        "' is unknown; it is parameter, first_moment or second_moment");
}

void check_steps(const Trainer& trainer, int64_t num_steps) {
  const int64_t left = trainer.settings().num_steps - trainer.steps_done;
  if (num_steps < 0) throw py::value_error("num_steps must not be negative");
  if (num_steps > left)
    throw py::value_error(
        "cannot run " + std::to_string(num_steps) + " steps: " + std::to_string(left) +
        " of num_steps=" + std::to_string(trainer.settings().num_steps) + " are left");
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

Doubles flat(const Trainer& trainer) { return Doubles(parameter_count(trainer.config())); }

}  // namespace

void bind_trainer(py::module_& m) {
  py::class_<PyTrainer>(m, "Trainer")
      .def(py::init([](const std::string& engine, const Ints& tokens, const Longs& offsets,
                       int n_layer, int n_embd, int n_head, int block_size, int vocab_size,
                       int batch_size, double learning_rate, double beta1, double beta2, double eps,
                       int64_t num_steps, int threads, bool prefix_sharing, bool skip_zeros) {
             return std::make_unique<PyTrainer>(
                 engine, Config{n_layer, n_embd, n_head, block_size, vocab_size},
                 Settings{batch_size, learning_rate, beta1, beta2, eps, num_steps},
                 Execution{prefix_sharing, skip_zeros, threads}, tokens, offsets);
           }),
           py::arg("engine"), py::arg("tokens"), py::arg("offsets"), py::kw_only(),
           py::arg("n_layer"), py::arg("n_embd"), py::arg("n_head"), py::arg("block_size"),
           py::arg("vocab_size"), py::arg("batch_size"), py::arg("learning_rate"), py::arg("beta1"),
           py::arg("beta2"), py::arg("eps"), py::arg("num_steps"), py::arg("threads"),
           py::arg("prefix_sharing"), py::arg("skip_zeros") = true)
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
      .def(
          "profile",
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
      .def_property_readonly("activity",
                             [](PyTrainer& t) -> std::optional<py::dict> {
                               if (!t.record().skip_zeros) return std::nullopt;
                               const Alone alone(t);
                               const Activity a = t.engine().activity();
                               return py::dict(py::arg("values") = a.values,
                                               py::arg("units") = a.units,
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
      .def(
          "loss",
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
      .def(
          "get",
          [](PyTrainer& t, const std::string& slot) {
            Doubles values = flat(t);
            const Alone alone(t);
            t.engine().read(slot_of(slot), values.mutable_data());
            return values;
          },
          py::arg("slot"))
      .def(
          "set",
          [](PyTrainer& t, const std::string& slot, const Doubles& values) {
            check_flat(values, t.config());
            const Alone alone(t);
            t.engine().write(slot_of(slot), values.data());
          },
          py::arg("slot"), py::arg("values"));
}

}  // namespace microgpt
