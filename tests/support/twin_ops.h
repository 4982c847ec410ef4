// Ops on twins: what the CPU makes of its operands is expected of the GPU.
#ifndef ENTRAIN_TESTS_SUPPORT_TWIN_OPS_H_
#define ENTRAIN_TESTS_SUPPORT_TWIN_OPS_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <utility>
#include <vector>

#include "tests/support/gpu_twin.h"

namespace entrain {

inline GpuTwin NormalTwin(DType dtype, std::initializer_list<int64_t> dims, uint64_t stream,
                          double scale = 1.0, int64_t row_stride = 0) {
  GpuTwin twin(dtype, dims, row_stride);
  twin.Normal(stream, scale);
  return twin;
}
inline GpuTwin FilledTwin(DType dtype, std::initializer_list<int64_t> dims, double value,
                          int64_t row_stride = 0) {
  GpuTwin twin(dtype, dims, row_stride);
  twin.Fill(value);
  return twin;
}
// To be overwritten.
inline GpuTwin NaNTwin(DType dtype, std::initializer_list<int64_t> dims, int64_t row_stride = 0) {
  return FilledTwin(dtype, dims, NAN, row_stride);
}
inline GpuTwin TwinOf(DType dtype, std::initializer_list<int64_t> dims,
                      const std::vector<float>& values) {
  GpuTwin twin(dtype, dims);
  twin.Set([&](int64_t i) { return values[static_cast<size_t>(i)]; });
  return twin;
}

// The view that an op on the context takes.
inline TensorView On(const Context& context, GpuTwin& twin) {
  return context.device() == DeviceKind::kCpu ? twin.cpu.view() : twin.gpu.view();
}
// The same without the first element: not where several can be taken at once.
inline TensorView TailOn(const Context& context, GpuTwin& twin) {
  const TensorView whole = On(context, twin);
  return {
      static_cast<char*>(whole.raw()) + SizeOf(whole.dtype()), whole.dtype(), {whole.size() - 1}};
}

// What an op writes, and by how much the GPU's may differ (RelativeError) from the CPU's; 0: by no bit.
struct TwinOutput {
  GpuTwin& twin;
  double tolerance;
};

// Runs the op on both, compares its outputs, and expects the same bits when it runs on the GPU again.
inline void ExpectTwins(const std::function<void(Context&)>& op,
                        const std::vector<TwinOutput>& outputs) {
  std::vector<Doubles> before;
  for (const TwinOutput& output : outputs) before.push_back(output.twin.gpu.GetDoubles());
  op(Cpu());
  op(Gpu());
  std::vector<std::vector<uint8_t>> first;
  for (size_t i = 0; i < outputs.size(); ++i) {
    GpuTwin& twin = outputs[i].twin;
    if (outputs[i].tolerance == 0.0) {
      EXPECT_EQ(twin.gpu.GetDoubles(), twin.cpu.values()) << "output " << i;
    } else {
      EXPECT_LE(twin.Error(), outputs[i].tolerance) << "output " << i;
    }
    first.push_back(twin.gpu.Bytes());
    twin.gpu.SetDoubles(before[i]);
  }
  op(Gpu());
  for (size_t i = 0; i < outputs.size(); ++i) {
    EXPECT_EQ(outputs[i].twin.gpu.Bytes(), first[i]) << "output " << i << " of another run";
  }
}

// For outputs that are functions of few fp32 operations of their inputs, which compilers may fuse differently: some ulp in fp32;
// in bf16 such a difference rarely changes how an element is rounded, then by 2⁻⁸ of it.
inline double ElementTolerance(DType dtype) { return dtype == DType::kBf16 ? 5e-4 : 5e-7; }

inline constexpr DType kFloatTypes[] = {DType::kF32, DType::kBf16};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_TWIN_OPS_H_
