// The tensors of one model by name, for those who show them to people.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "params.h"

namespace microgpt {

struct Tensor {
  std::string name;  // "wte", "layer0.attn_wq"
  int64_t rows, cols;
  int64_t offset;  // of its first element in the natural layout
};

inline std::vector<Tensor> tensors(const Config& c) {
#define NAME(name, rows, columns, often) #name,
  constexpr const char* names[] = {PYMICROGPT_TENSORS(NAME)};
#undef NAME
  std::vector<Tensor> list;
  const Layout at(c);
  each_tensor(c, [&](Param p, int layer) {
    const TensorKind t = kind_of(p);
    std::string name = names[static_cast<int>(p)];
    if (t.often == Often::per_layer) name = "layer" + std::to_string(layer) + "." + name;
    list.push_back({name, length_of(t.rows, c), length_of(t.columns, c), at(p, layer)});
  });
  return list;
}

}  // namespace microgpt
