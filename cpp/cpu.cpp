#include "cpu.h"

#include <algorithm>
#include <vector>

#include "build.h"

#if defined(_M_X64)
#define NOMINMAX
#include <intrin.h>
#include <windows.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace microgpt {
namespace {

#if defined(__x86_64__) || defined(_M_X64)
// Whether two 512-bit multiply-adds start in a cycle. No feature says so: Intel's cores for servers
// since Skylake do, by their model numbers. AMD's Zen 4 does not; Zen 5 has not been measured.
bool twice_512() {
  unsigned vendor = 0, signature = 0;
#if defined(_M_X64)
  int leaf[4];
  __cpuid(leaf, 0);
  vendor = static_cast<unsigned>(leaf[1]);
  __cpuid(leaf, 1);
  signature = static_cast<unsigned>(leaf[0]);
#else
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  __cpuid(0, eax, vendor, ecx, edx);
  __cpuid(1, signature, ebx, ecx, edx);
#endif
  if (vendor != 0x756e6547 || (signature >> 8 & 15) != 6) return false;  // "Genu"
  switch ((signature >> 4 & 15) | (signature >> 12 & 0xf0)) {
    case 0x55:  // Skylake, Cascade Lake, Cooper Lake
    case 0x6a:
    case 0x6c:  // Ice Lake
    case 0x8f:
    case 0xcf:  // Sapphire Rapids, Emerald Rapids
    case 0xad:
    case 0xae:  // Granite Rapids
      return true;
    default:
      return false;
  }
}
#endif

// Those that are here, of the features that some table of this build needs, and traits.
std::vector<std::string_view> features() {
  std::vector<std::string_view> here;
  [[maybe_unused]] const auto add = [&](const char* name, bool has) {
    if (has) here.emplace_back(name);
  };
#if defined(__x86_64__) || defined(_M_X64)
  add("twice_512", twice_512());
#endif
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();  // asks the operating system too: it must save the wide registers
#define ASK(name) add(#name, __builtin_cpu_supports(#name));
  PYMICROGPT_FEATURES(ASK)
#undef ASK
#elif defined(_M_X64)
  int leaf1[4], leaf7[4];
  __cpuid(leaf1, 1);
  __cpuidex(leaf7, 7, 0);
  const unsigned ecx1 = static_cast<unsigned>(leaf1[2]), ebx7 = static_cast<unsigned>(leaf7[1]);
  // Windows answers for itself too: it must save the wide registers.
  const bool avx2 = IsProcessorFeaturePresent(PF_AVX2_INSTRUCTIONS_AVAILABLE);
  const bool avx512 = IsProcessorFeaturePresent(PF_AVX512F_INSTRUCTIONS_AVAILABLE);
  add("avx2", avx2);
  add("fma", avx2 && ecx1 >> 12 & 1);
  add("avx512f", avx512);
  add("avx512cd", avx512 && ebx7 >> 28 & 1);
  add("avx512dq", avx512 && ebx7 >> 17 & 1);
  add("avx512bw", avx512 && ebx7 >> 30 & 1);
  add("avx512vl", avx512 && ebx7 >> 31 & 1);
#elif defined(__aarch64__) && defined(__linux__)
  add("sme", getauxval(AT_HWCAP2) >> 23 & 1);  // HWCAP2_SME, which not every <asm/hwcap.h> has
#elif defined(__aarch64__) && defined(__APPLE__)
  int sme = 0;
  size_t size = sizeof sme;
  add("sme", sysctlbyname("hw.optional.arm.FEAT_SME", &sme, &size, nullptr, 0) == 0 && sme == 1);
#endif
  return here;
}

}  // namespace

bool cpu_has(std::string_view needs) {
  static const std::vector<std::string_view> here = features();
  while (!needs.empty()) {
    const size_t end = std::min(needs.find(' '), needs.size());
    if (std::find(here.begin(), here.end(), needs.substr(0, end)) == here.end()) return false;
    needs.remove_prefix(std::min(end + 1, needs.size()));
  }
  return true;
}

}  // namespace microgpt
