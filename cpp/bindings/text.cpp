// Documents as one array of characters, and Python's random numbers.
#include "../text.h"

#include <cmath>
#include <optional>
#include <vector>

#include "bindings.h"

namespace microgpt {
namespace {

// The state of Python's random.Random, which goes on where it ends up.
using Words = py::array_t<uint32_t, py::array::c_style>;

uint32_t* state_of(Words& state) {
  if (state.ndim() != 1 || state.size() != 625) throw py::value_error("state must hold 625 words");
  return state.mutable_data();
}

// Calls use() with a Text of the documents, whatever the width of their characters. Arrays are as
// pymicrogpt.corpus.Documents makes them.
template <class Use>
auto with_text(const py::array& text, const Longs& offsets, const std::optional<Words>& order,
               Use use) {
  const int64_t count = order ? order->size() : offsets.size() - 1;
  const uint32_t* indices = order ? order->data() : nullptr;
  switch (text.itemsize()) {
    case 1:
      return use(
          Text<uint8_t>{static_cast<const uint8_t*>(text.data()), offsets.data(), indices, count});
    case 2:
      return use(Text<uint16_t>{static_cast<const uint16_t*>(text.data()), offsets.data(), indices,
                                count});
    default:
      return use(Text<uint32_t>{static_cast<const uint32_t*>(text.data()), offsets.data(), indices,
                                count});
  }
}

py::array_t<bool> flags(const std::vector<bool>& bits) {
  py::array_t<bool> array(static_cast<py::ssize_t>(bits.size()));
  std::copy(bits.begin(), bits.end(), array.mutable_data());
  return array;
}

}  // namespace

void bind_text(py::module_& m) {
  m.def(
      "shuffled",
      [](Words state, uint32_t count) {
        std::vector<uint32_t> order;
        uint32_t* words = state_of(state);
        {
          py::gil_scoped_release release;
          order = shuffled(words, count);
        }
        return Words(static_cast<py::ssize_t>(order.size()), order.data());
      },
      py::arg("state").noconvert(), py::arg("count"));
  m.def(
      "gauss",
      [](Words state, std::optional<double> waiting, double sigma, int64_t count) {
        Doubles numbers(count);
        double next = waiting.value_or(std::nan(""));
        uint32_t* words = state_of(state);
        double* data = numbers.mutable_data();
        {
          py::gil_scoped_release release;
          gauss(words, next, sigma, data, count);
        }
        py::object rest = py::none();
        if (!std::isnan(next)) rest = py::float_(next);
        return py::make_tuple(numbers, rest);
      },
      py::arg("state").noconvert(), py::arg("waiting"), py::arg("sigma"), py::arg("count"));
  m.def(
      "encode",
      [](const py::array& text, const Longs& offsets, const std::optional<Words>& order,
         const Ints& ids, int32_t bos, int64_t characters) {
        return with_text(text, offsets, order, [&](const auto& documents) {
          Ints tokens(characters + 2 * documents.count);
          Longs ends(documents.count + 1);
          int32_t* token = tokens.mutable_data();
          int64_t* end = ends.mutable_data();
          int64_t unknown;
          {
            py::gil_scoped_release release;
            unknown = encode(documents, ids.data(), ids.size(), bos, token, end);
          }
          return py::make_tuple(tokens, ends, unknown);
        });
      },
      py::arg("text"), py::arg("offsets"), py::arg("order"), py::arg("ids"), py::arg("bos"),
      py::arg("characters"));
  m.def(
      "seen",
      [](const py::array& text, const Longs& offsets, const std::optional<Words>& order) {
        return with_text(text, offsets, order, [&](const auto& documents) {
          std::vector<bool> bits;
          {
            py::gil_scoped_release release;
            bits = seen(documents);
          }
          return flags(bits);
        });
      },
      py::arg("text"), py::arg("offsets"), py::arg("order"));
  m.def(
      "framed",
      [](const py::array& text, const Longs& offsets, const std::optional<Words>& order,
         int64_t first, int64_t last) {
        return with_text(text, offsets, order, [&](const auto& documents) {
          return py::bytes(framed(documents, first, last));
        });
      },
      py::arg("text"), py::arg("offsets"), py::arg("order"), py::arg("first"), py::arg("last"));
  m.def(
      "held_out",
      [](const py::array& text, const Longs& offsets, const std::optional<Words>& order,
         Words state, int64_t wanted) {
        uint32_t* words = state_of(state);
        return with_text(text, offsets, order, [&](const auto& documents) {
          std::vector<bool> bits;
          {
            py::gil_scoped_release release;
            bits = held_out(documents, words, wanted);
          }
          return flags(bits);
        });
      },
      py::arg("text"), py::arg("offsets"), py::arg("order"), py::arg("state").noconvert(),
      py::arg("wanted"));
}

}  // namespace microgpt
