// The memory of an engine's state: zeros, of which pages that nobody touches, most gradients of a
// small one in a training, take no room in the machine.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

#include "arena.h"

namespace microgpt {

class Block {
 public:
  explicit Block(size_t bytes)  // throws std::bad_alloc
      : huge_(kHugePages && bytes >= 2 * kHugePage), bytes_(bytes + alignment()),
        all_(huge_ ? map(bytes_) : std::calloc(bytes_, 1)), data_(all_) {
    if (all_ == nullptr) throw std::bad_alloc();
    size_t room = bytes_;
    std::align(alignment(), bytes, data_, room);
    if (huge_) advise(data_, bytes / kHugePage * kHugePage);
  }
  ~Block() {
    if (huge_) unmap(all_, bytes_);
    else std::free(all_);
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void* data() const { return data_; }  // aligned to a line

 private:
  // What is more than second caches hold lies on huge pages, where the system has some: small ones
  // collide in the cache, and are too many for the first table of addresses. It is mapped, since
  // what the heap hands out may have small pages already.
  static constexpr size_t kHugePage = size_t{2} << 20;
  size_t alignment() const { return huge_ ? kHugePage : kLine; }
#if defined(MADV_HUGEPAGE)
  static constexpr bool kHugePages = true;
  static void* map(size_t bytes) {
    void* all = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return all == MAP_FAILED ? nullptr : all;
  }
  static void unmap(void* all, size_t bytes) { munmap(all, bytes); }
  static void advise(void* data, size_t bytes) { madvise(data, bytes, MADV_HUGEPAGE); }
#else
  static constexpr bool kHugePages = false;
  static void* map(size_t) { return nullptr; }
  static void unmap(void*, size_t) {}
  static void advise(void*, size_t) {}
#endif

  const bool huge_;
  const size_t bytes_;
  void* const all_;
  void* data_;
};

}  // namespace microgpt
