// What the CPU can do that not every one of its kind can.
#pragma once
#include <string_view>

namespace microgpt {

// Whether this CPU has all features of a list such as "avx2 fma", in the names that gcc and clang
// have for them, or a trait: "twice_512", which is two 512-bit multiply-adds a cycle.
bool cpu_has(std::string_view needs);

}  // namespace microgpt
