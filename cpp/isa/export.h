// The end of an instruction set's file: the kernels over its Vec, and the table that it exports,
// PYMICROGPT_TABLE.
#include "../kernels/model.h"

namespace microgpt {
extern const Kernels PYMICROGPT_TABLE;
constexpr Kernels PYMICROGPT_TABLE = table();
}  // namespace microgpt
