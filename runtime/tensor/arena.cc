#include "runtime/tensor/arena.h"

#include <algorithm>

#include "runtime/device/device_memory.h"

namespace entrain {

TensorView Arena::Allocate(std::string_view name, DType dtype,
                           std::initializer_list<int64_t> dims) {
  const TensorView shape(nullptr, dtype, dims);
  const int64_t bytes = Buffer::Aligned(shape.size() * SizeOf(dtype));
  const int64_t offset = used_;
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  if (!owns_) {
    entries_.push_back({std::string(name), bytes});
    return shape;
  }
  CHECK_LE(used_, buffer_.bytes()) << "arena too small for " << name;
  return {static_cast<char*>(buffer_.data()) + offset, dtype, dims};
}

void Arena::Release(int64_t mark) {
#ifndef NDEBUG
  // 0xFF bytes are a NaN in fp32 and in bf16.
  if (owns_) {
    FillBytes(*context_, static_cast<char*>(buffer_.data()) + mark, 0xFF, used_ - mark);
  }
#endif
  used_ = mark;
}

}  // namespace entrain
