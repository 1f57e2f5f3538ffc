// The oracle of the kernel tests: the plain kernels in f64, as an Engine.
#pragma once
#include <cstddef>
#include <cstring>
#include <new>

#include "../../cpp/engine.h"
#include "../../cpp/kernels/plain.h"

namespace microgpt {
namespace {

class ReferenceEngine final : public Engine {
 public:
  ReferenceEngine(const Config& config, int batch_size) {
    Setup setup = {};
    setup.config = config;
    setup.batch_size = batch_size;
    bytes_ = Plain<double>::bytes(setup);
    state_ = ::operator new(bytes_, std::align_val_t{kAlign});
    std::memset(state_, 0, bytes_);
    Plain<double>::create(state_, setup);
  }
  ~ReferenceEngine() override { ::operator delete(state_, std::align_val_t{kAlign}); }
  ReferenceEngine(const ReferenceEngine&) = delete;
  ReferenceEngine& operator=(const ReferenceEngine&) = delete;

  void write(Slot slot, const double* natural) override {
    Plain<double>::write(state_, slot, natural);
  }
  void read(Slot slot, double* natural) const override {
    Plain<double>::read(state_, slot, natural);
  }
  double gradient(const Batch& batch) override { return Plain<double>::gradient(state_, batch); }
  double step(const Batch& batch, const AdamStep& adam) override {
    return Plain<double>::step(state_, batch, adam);
  }
  double loss(const Batch& batch) override { return Plain<double>::loss(state_, batch); }
  size_t bytes() const override { return bytes_; }

 private:
  size_t bytes_;
  void* state_;
};

}  // namespace
}  // namespace microgpt
