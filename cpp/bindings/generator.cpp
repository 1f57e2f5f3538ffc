#include "../generator.h"

#include <limits>
#include <memory>
#include <vector>

#include "bindings.h"

namespace microgpt {
namespace {

using PyGenerator = Object<Generator>;

template <class T>
std::vector<T> vector_of(const py::array_t<T, py::array::c_style>& array, const char* name) {
  if (array.ndim() != 1) throw py::value_error(std::string(name) + " must have one dimension");
  return {array.data(), array.data() + array.size()};
}

}  // namespace

void bind_generator(py::module_& m) {
  py::class_<PyGenerator>(m, "Generator")
      .def(py::init([](const std::string& engine, int n_layer, int n_embd, int n_head,
                       int block_size, int vocab_size, int64_t documents) {
             return std::make_unique<PyGenerator>(
                 engine, Config{n_layer, n_embd, n_head, block_size, vocab_size}, documents);
           }),
           py::arg("engine"), py::kw_only(), py::arg("n_layer"), py::arg("n_embd"),
           py::arg("n_head"), py::arg("block_size"), py::arg("vocab_size"), py::arg("documents"))
      .def(
          "load",
          [](PyGenerator& g, const Doubles& parameters) {
            check_flat(parameters, g.config());
            const Alone alone(g);
            g.load(parameters.data());
          },
          py::arg("parameters"))
      .def(
          "generate",
          [](PyGenerator& g, int64_t first, int64_t count, double temperature, uint64_t seed,
             int top_k, const Ints& prompt, int most) {
            if (first < 0 || count < 0)
              throw py::value_error("first and count must not be negative");
            const double inverse = 1.0 / temperature;
            if (!(inverse > 0.0 && inverse <= std::numeric_limits<float>::max()))
              throw py::value_error("temperature must have a reciprocal in float32");
            if (top_k < 0) throw py::value_error("top_k must not be negative");
            const std::vector<int32_t> start = vector_of(prompt, "prompt");
            if (most < 0 || start.size() > static_cast<size_t>(most))
              throw py::value_error("prompt is longer than most");
            for (int32_t token : start)
              if (token < 0 || token >= g.config().vocab_size - 1)
                throw py::value_error("prompt must hold tokens other than BOS");
            std::vector<int32_t> documents;
            {
              const Alone alone(g);
              py::gil_scoped_release release;
              documents = g.generate(first, count, temperature, seed, top_k, start, most);
            }
            return py::array_t<int32_t>(static_cast<py::ssize_t>(documents.size()),
                                        documents.data());
          },
          py::arg("first"), py::arg("count"), py::arg("temperature"), py::arg("seed"),
          py::arg("top_k"), py::arg("prompt"), py::arg("most"));
}

}  // namespace microgpt
