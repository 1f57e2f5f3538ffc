// Which engines there are, how this was built, and what the CPU can do.
#include <optional>

#include "../denormals.h"
#include "../peak.h"
#include "../registry.h"
#include "../tensors.h"
#include "bindings.h"
#include "build.h"

namespace microgpt {

void bind_engines(py::module_& m) {
  m.def("engines", [] {
    py::list list;
    for (const EngineRecord& r : engines())
      list.append(py::dict(py::arg("name") = r.name, py::arg("available") = r.available,
                           py::arg("reason") = r.reason, py::arg("isa") = r.isa,
                           py::arg("lanes") = r.lanes, py::arg("dtype") = r.dtype,
                           py::arg("label") = r.label, py::arg("arch") = r.arch,
                           py::arg("supported") = r.supported, py::arg("simd") = r.simd,
                           py::arg("prefix_sharing") = r.prefix_sharing,
                           py::arg("skip_zeros") = r.skip_zeros, py::arg("threads") = r.threads,
                           py::arg("generates") = r.generates, py::arg("phases") = r.phases));
    return list;
  });
  m.def(
      "peak",
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
  m.def(
      "fma_rate",
      [](const std::string& engine, int runs) {
        if (runs < 1) throw std::invalid_argument("runs must be at least 1");
        py::gil_scoped_release release;
        return measure_fma(engine, runs);
      },
      py::arg("engine"), py::arg("runs") = 2);
  m.def(
      "clock_rate",
      [](int runs) {
        if (runs < 1) throw std::invalid_argument("runs must be at least 1");
        py::gil_scoped_release release;
        return measure_clock(runs);
      },
      py::arg("runs") = 3);
  m.def(
      "flush_denormals",
      [](bool on) {
        thread_local std::optional<FlushDenormals> flushing;
        if (on && !flushing) flushing.emplace();
        if (!on) flushing.reset();
      },
      py::arg("on"));
  m.def(
      "tensors",
      [](int n_layer, int n_embd, int n_head, int block_size, int vocab_size) {
        py::list list;
        for (const Tensor& t : tensors({n_layer, n_embd, n_head, block_size, vocab_size}))
          list.append(py::make_tuple(t.name, py::make_tuple(t.rows, t.cols), t.offset));
        return list;
      },
      py::kw_only(), py::arg("n_layer"), py::arg("n_embd"), py::arg("n_head"),
      py::arg("block_size"), py::arg("vocab_size"));
  m.def("build_info", [] {
    return py::dict(py::arg("compiler") = PYMICROGPT_COMPILER,
                    py::arg("flags") = PYMICROGPT_BUILD_FLAGS);
  });
}

}  // namespace microgpt
