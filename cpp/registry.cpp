#include "registry.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "build.h"
#include "cpu.h"

namespace microgpt {

#define DECLARE(table) extern const Kernels table;
PYMICROGPT_TABLES(DECLARE)
#undef DECLARE

namespace {

EngineRecord record_of(const char* engine, const char* label, const char* isa,
                       const std::string& arch, const char* needs, bool simd, const Kernels* table,
                       const Kernels* rival, const std::string& unfit) {
  const bool native = arch.empty() || arch == PYMICROGPT_ARCH;
  const bool supported = native && unfit.empty() && cpu_has(needs);
  const bool available = supported && table != nullptr;
  const std::string reason = available ? ""
                             : !native ? "not part of this build: it is for another kind of CPU"
                             : !unfit.empty() ? unfit
                             : supported      ? "left out of this build"
                                              : "this CPU lacks " + std::string(isa);
  return {engine,
          label,
          available,
          supported,
          reason,
          simd ? arch : "",  // what the compiler vectorises has a table for any CPU
          isa,
          table != nullptr ? table->lanes : 0,
          "float32",
          simd,
          simd,
          simd,
          simd,
          simd,
          simd,
          available ? table : nullptr,
          available ? rival : nullptr};
}

EngineRecord tape(const char* name, const char* label, const char* dtype) {
  EngineRecord record = {};
  record.name = name;
  record.label = label;
  record.available = record.supported = true;
  record.isa = "scalar autograd";
  record.lanes = 1;
  record.dtype = dtype;
  return record;
}

}  // namespace

std::vector<EngineRecord> engines() {
  std::vector<EngineRecord> list;
  // An engine of several tables is the best of them that runs here.
  const auto add = [&](const EngineRecord& record) {
    const auto same = [&](const EngineRecord& other) { return other.name == record.name; };
    const auto found = std::find_if(list.begin(), list.end(), same);
    if (found == list.end()) list.push_back(record);
    else if (!found->available && record.available) *found = record;
  };
#define ADD(name, engine, label, isa, arch, needs, where, simd, table, rival, unfit) \
  if (cpu_has(where)) add(record_of(engine, label, isa, arch, needs, simd, table, rival, unfit));
  PYMICROGPT_ROWS(ADD)
#undef ADD
  add(tape("tape32", "C++ tape, f32", "float32"));
  add(tape("tape", "C++ tape, f64", "float64"));
  return list;
}

EngineRecord choose(const std::string& name) {
  const std::vector<EngineRecord> list = engines();
  std::string wanted = name, origin = "engine";
  if (name == "auto") {
    const char* forced = std::getenv("PYMICROGPT_ISA");
    if (forced == nullptr || *forced == '\0') {
      for (const EngineRecord& record : list)
        if (record.available) return record;
    }
    wanted = forced;
    origin = "PYMICROGPT_ISA";
  }
  std::string has;
  for (const EngineRecord& record : list)
    if (record.available) has += (has.empty() ? "" : ", ") + record.name;
  for (const EngineRecord& record : list) {
    if (record.name != wanted) continue;
    if (record.available) {
      EngineRecord alone = record;
      alone.rival = nullptr;
      return alone;
    }
    throw std::invalid_argument(origin + " '" + wanted + "' cannot run here: " + record.reason +
                                "; this machine has " + has);
  }
  throw std::invalid_argument(origin + " '" + wanted + "' is unknown; this machine has " + has);
}

EngineRecord rival_of(const EngineRecord& record) {
  for (const EngineRecord& other : engines())
    if (record.rival != nullptr && other.kernels == record.rival) return other;
  return record;
}

}  // namespace microgpt
