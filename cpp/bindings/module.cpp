// The extension module. Its parts check arguments, let go of Python's lock, and do nothing else.
#include "bindings.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled engines of pymicrogpt.";
  microgpt::bind_engines(m);
  microgpt::bind_text(m);
  microgpt::bind_generator(m);
  microgpt::bind_trainer(m);
}
