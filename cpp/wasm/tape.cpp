// The scalar autograd tape as a table of kernels, for the module of that name.
#include "../tape.h"

#include <new>

namespace microgpt {
namespace {

using Engine64 = TapeEngine<double>;

Engine64& engine(void* state) { return *static_cast<Engine64*>(state); }

}  // namespace
}  // namespace microgpt

// What would be thrown or printed, where memory is at an end, ends the module by a trap.
extern "C" void* __cxa_allocate_exception(size_t) { __builtin_trap(); }
extern "C" void __cxa_throw(void*, void*, void (*)(void*)) { __builtin_trap(); }
void std::__libcpp_verbose_abort(const char*, ...) noexcept { __builtin_trap(); }

namespace microgpt {

extern const Kernels PYMICROGPT_TABLE;
constexpr Kernels PYMICROGPT_TABLE = {
    1,
    false,
    [](const Setup&) { return sizeof(Engine64); },
    [](void* state, const Setup& setup) { new (state) Engine64(setup.config); },
    [](void* state, Slot slot, const double* natural) { engine(state).write(slot, natural); },
    [](const void* state, Slot slot, double* natural) {
      engine(const_cast<void*>(state)).read(slot, natural);
    },
    [](void* state, const Call& call) {
      if (call.adam != nullptr) return engine(state).step(*call.batch, *call.adam);
      return call.backward ? engine(state).gradient(*call.batch) : engine(state).loss(*call.batch);
    },
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace microgpt
