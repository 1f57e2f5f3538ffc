// What the compiler is told beyond the language, in the words of each compiler. (__restrict is a
// word of all of them.)
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
