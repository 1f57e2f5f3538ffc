// The end of an instruction set's file: the kernels over its Vec, and the table that it exports.
//   PYMICROGPT_TABLE   name of the table: avx2, ...
//   PYMICROGPT_ENGINE  engine name, a string
//   PYMICROGPT_ISA     what the flags ask for, a string for people
//   PYMICROGPT_NEEDS   Feature mask
#include "../kernels/model.h"

namespace microgpt {
extern const Kernels PYMICROGPT_TABLE;
constexpr Kernels PYMICROGPT_TABLE = table(PYMICROGPT_ENGINE, PYMICROGPT_ISA, PYMICROGPT_NEEDS);
}  // namespace microgpt
