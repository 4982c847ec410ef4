// Operands of the ops that gpu_bench times, in the GPU's memory.
#ifndef ENTRAIN_TESTS_BENCH_GPU_OPERANDS_H_
#define ENTRAIN_TESTS_BENCH_GPU_OPERANDS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "runtime/base/philox.h"
#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/device/device_memory.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

class GpuOperands {
 public:
  explicit GpuOperands(Context& context) : context_(context) {}

  // Normal numbers as bf16; as fp32, pairs of them: again such numbers. Zeros would be multiplied faster than data are.
  TensorView Tensor(DType dtype, std::initializer_list<int64_t> dims, bool positive = false) {
    const TensorView shape(nullptr, dtype, dims);
    std::vector<Bf16> pattern(kPattern);
    for (int64_t i = 0; i < kPattern; ++i) {
      const float value = NormalAt(1, buffers_.size(), static_cast<uint64_t>(i));
      pattern[static_cast<size_t>(i)] = Bf16(positive ? 0.5F + std::abs(value) : value);
    }
    return {Repeat(pattern.data(), kPattern * SizeOf(DType::kBf16), shape.bytes()), dtype, dims};
  }

  TensorView Tokens(int64_t vocab, std::initializer_list<int64_t> dims) {
    const TensorView shape(nullptr, DType::kI32, dims);
    std::vector<int32_t> pattern(kPattern);
    for (int64_t i = 0; i < kPattern; ++i) {
      pattern[static_cast<size_t>(i)] = static_cast<int32_t>(
          Philox(1, 3, static_cast<uint64_t>(i))[0] % static_cast<uint64_t>(vocab));
    }
    return {Repeat(pattern.data(), kPattern * SizeOf(DType::kI32), shape.bytes()), DType::kI32,
            dims};
  }

  // Gives back the memory of all.
  void Clear() { buffers_.clear(); }

 private:
  static constexpr int64_t kPattern = int64_t{1} << 16;

  // Memory full of the pattern, again and again.
  void* Repeat(const void* pattern, int64_t pattern_bytes, int64_t bytes) {
    const Buffer& buffer = buffers_.emplace_back(DeviceKind::kCuda, bytes);
    auto* data = static_cast<char*>(buffer.data());
    int64_t filled = std::min(pattern_bytes, bytes);
    CopyToDevice(context_, pattern, data, filled);
    while (filled < bytes) {
      const int64_t more = std::min(filled, bytes - filled);
      CopyOnDevice(context_, data, data + filled, more);
      filled += more;
    }
    return data;
  }

  Context& context_;
  std::vector<Buffer> buffers_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_BENCH_GPU_OPERANDS_H_
