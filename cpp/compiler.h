// What compilers are told beyond the language, in the words of each. (__restrict is a word of all.)
#pragma once

// Functions in headers that ISA translation units share must leave no copy compiled with their
// flags for the linker to pick: they are inlined always, even without optimisation.
#if defined(__GNUC__)
#define PYMICROGPT_INLINE [[gnu::always_inline]] inline
#define PYMICROGPT_NOINLINE [[gnu::noinline]]
#elif defined(_MSC_VER)
#define PYMICROGPT_INLINE __forceinline
#define PYMICROGPT_NOINLINE __declspec(noinline)
#endif

// Behind the parameters of a lambda that must be inlined too, so that what it captures stays in
// registers.
#if defined(__GNUC__)
#define PYMICROGPT_INLINED __attribute__((always_inline))
#else
#define PYMICROGPT_INLINED
#endif

// Before a loop of constant length over an array that should live in registers.
#if defined(__clang__)
#define PYMICROGPT_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define PYMICROGPT_UNROLL _Pragma("GCC unroll 32")
#else
#define PYMICROGPT_UNROLL
#endif

// Asks for the cache line of an address that will be read soon.
#if defined(__GNUC__) || defined(__clang__)
#define PYMICROGPT_PREFETCH(address) __builtin_prefetch(address)
#else
#define PYMICROGPT_PREFETCH(address) static_cast<void>(address)
#endif

// The compiler knows nothing of the value of a variable any more.
#if defined(__GNUC__) || defined(__clang__)
#define PYMICROGPT_FORGET(x) __asm__("" : "+r"(x))
#else
#define PYMICROGPT_FORGET(x) static_cast<void>(0)
#endif

// In a loop that waits for another thread: lets the core's other thread have its units.
#if defined(__x86_64__)
#define PYMICROGPT_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define PYMICROGPT_PAUSE() __asm__ volatile("yield")
#else
#define PYMICROGPT_PAUSE() static_cast<void>(0)
#endif
