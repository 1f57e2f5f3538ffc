// What the parts of the extension module share: arrays, and who may be inside an object.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "../params.h"

namespace microgpt {

namespace py = pybind11;

using Ints = py::array_t<int32_t, py::array::c_style>;
using Longs = py::array_t<int64_t, py::array::c_style>;
using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;

// Throws where the values are not those of a model of this shape, flat.
inline void check_flat(const Doubles& values, const Config& config) {
  if (values.ndim() != 1 || values.size() != parameter_count(config))
    throw py::value_error("values must be flat, of " + std::to_string(parameter_count(config)) +
                          " elements");
}

// What Python holds of a T. Calls work without the GIL or on what such a call changes, so only one
// of them may be inside; see Alone.
template <class T>
struct Object : T {
  using T::T;
  std::atomic<bool> busy{false};
};

class Alone {
 public:
  template <class T>
  explicit Alone(Object<T>& object) : busy_(object.busy) {
    if (busy_.exchange(true))
      throw std::runtime_error(
          "this trainer or model is at work in another thread; give each its own");
  }
  ~Alone() { busy_ = false; }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;

 private:
  std::atomic<bool>& busy_;
};

// Each adds its part to the module.
void bind_engines(py::module_& module);
void bind_text(py::module_& module);
void bind_generator(py::module_& module);
void bind_trainer(py::module_& module);

}  // namespace microgpt
