// What the kernels ask of Vec (docs/adding-an-isa.md), checked where an instruction set's file
// includes them: what is missing, or has another type, is named by the first error.
#pragma once
#include <cstdint>

namespace microgpt {
namespace {

static_assert(Vec::lanes == 4 || Vec::lanes == 8 || Vec::lanes == 16, "a Vec has 4, 8 or 16 lanes");
static_assert(Vec::tile_panels >= 1 && Vec::accumulators >= 4, "a tile has four sums at least");
static_assert(Vec::compact || Vec::accumulators >= 4 * Vec::tile_panels * (16 / Vec::lanes),
              "weight gradients store four rows of tile_panels panels at a time");

namespace contract {

// The type of an expression that does not compile.
struct Missing {};
template <class...>
struct Void {
  using type = void;
};
template <class A, class B>
struct Same {
  static constexpr bool value = false;
};
template <class A>
struct Same<A, A> {
  static constexpr bool value = true;
};

// Operands, of which only the types count.
template <class T>
extern T a;
template <class T>
extern const T* t;
template <class T>
extern float* to;
template <class T>
extern const float* from;

template <int>
Missing quad(Missing);  // so that quad<0>(a<T>) is read as a call

#define EXPECT(name, result, ...)                                          \
  template <class T, class = void>                                         \
  struct Type_##name {                                                     \
    using type = Missing;                                                  \
  };                                                                       \
  template <class T>                                                       \
  struct Type_##name<T, typename Void<decltype(__VA_ARGS__)>::type> {      \
    using type = decltype(__VA_ARGS__);                                    \
  };                                                                       \
  static_assert(!Same<typename Type_##name<Vec>::type, Missing>::value,    \
                "this instruction set lacks an operation of Vec: " #name); \
  static_assert(Same<typename Type_##name<Vec>::type, result>::value,      \
                "an operation of Vec has another type than " #result ": " #name)

EXPECT(load, Vec, T::load(from<T>));
EXPECT(set, Vec, T::set(1.0f));
EXPECT(load_quad, Vec, T::load_quad(from<T>));
EXPECT(load_pair, Vec, T::load_pair(from<T>));
EXPECT(store, void, a<T>.store(to<T>));
EXPECT(store_quad, void, a<T>.store_quad(to<T>));
EXPECT(add, Vec, a<T> + a<T>);
EXPECT(subtract, Vec, a<T> - a<T>);
EXPECT(multiply, Vec, a<T>* a<T>);
EXPECT(divide, Vec, a<T> / a<T>);
EXPECT(sqrt, Vec, sqrt(a<T>));
EXPECT(other_sqrt, Vec, other_sqrt(a<T>));
EXPECT(fma, Vec, fma(a<T>, a<T>, a<T>));
EXPECT(reciprocal, Vec, reciprocal(a<T>));
EXPECT(max, Vec, max(a<T>, a<T>));
EXPECT(where_greater, Vec, where_greater(a<T>, a<T>, a<T>));
EXPECT(flush_below, Vec, flush_below(1.0f, a<T>));
EXPECT(unequal, unsigned, unequal(a<T>, a<T>));
EXPECT(last_as_exponent, Vec, last_as_exponent(a<T>));
EXPECT(split, void, split(a<T>, a<T>, a<T>));
EXPECT(quad, Vec, quad<0>(a<T>));
EXPECT(quad_sum, Vec, quad_sum(a<T>));
EXPECT(quad_max, Vec, quad_max(a<T>));
EXPECT(reduce4, Vec, reduce4(a<T>, a<T>, a<T>, a<T>));
EXPECT(max4, Vec, max4(a<T>, a<T>, a<T>, a<T>));
EXPECT(across_quads, Vec, across_quads(a<T>));
EXPECT(max_across_quads, Vec, max_across_quads(a<T>));
EXPECT(sum_quads, Vec, sum_quads(t<T>));
EXPECT(interleave_low, Vec, interleave_low(a<T>, a<T>));
EXPECT(interleave_high, Vec, interleave_high(a<T>, a<T>));
EXPECT(pair_sums, Vec, pair_sums(a<T>, a<T>));
EXPECT(pairs_low, Vec, pairs_low(a<T>, a<T>));
EXPECT(pairs_high, Vec, pairs_high(a<T>, a<T>));
EXPECT(store_quads, void, store_quads(to<T>, 16, t<T>));
EXPECT(store_transposed, void, store_transposed(to<T>, a<T>, a<T>, a<T>, a<T>));
#undef EXPECT

}  // namespace contract
}  // namespace
}  // namespace microgpt
