// The plain kernels as an engine: compiled once for every table, each time with other flags.
//   PYMICROGPT_TABLE  name of the table: scalar_baseline, autovec_v4, ...
//   PYMICROGPT_LANES  floats per vector under these flags; 1 where the vectoriser is off

// gcc makes memset and memcpy of the short loops over lanes, in stores of 16 bytes that the wider
// loads after them have to wait for (10 % of a step under AVX2).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-loop-distribute-patterns")
#endif

#include "../kernels/plain.h"

namespace microgpt {

extern const Kernels PYMICROGPT_TABLE;
constexpr Kernels PYMICROGPT_TABLE = {
    PYMICROGPT_LANES,
    false,
    Plain<float>::bytes,
    Plain<float>::create,
    Plain<float>::write,
    Plain<float>::read,
    Plain<float>::run,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace microgpt
