// GpuTwin: an operand on the CPU and, with the same bits, on the GPU, for tests that compare an op on both.
#ifndef ENTRAIN_TESTS_SUPPORT_GPU_TWIN_H_
#define ENTRAIN_TESTS_SUPPORT_GPU_TWIN_H_

#include <functional>
#include <initializer_list>

#include "tests/support/gpu_test.h"
#include "tests/support/test_tensor.h"

namespace entrain {

class GpuTwin {
 public:
  GpuTwin(DType dtype, std::initializer_list<int64_t> dims, int64_t row_stride = 0)
      : cpu(dtype, dims, row_stride), gpu(dtype, dims, row_stride) {}

  // Standard normal numbers times `scale`, plus `offset`, as TestTensor's.
  GpuTwin& Normal(uint64_t stream, double scale = 1.0, double offset = 0.0) {
    return Set(
        [&](int64_t i) { return offset + scale * NormalAt(7, stream, static_cast<uint64_t>(i)); });
  }
  GpuTwin& Fill(double value) {
    return Set([&](int64_t) { return value; });
  }
  GpuTwin& Set(const std::function<double(int64_t)>& value) {
    for (int64_t i = 0; i < cpu.size(); ++i) cpu.Set(i, value(i));
    gpu.SetDoubles(cpu.values());
    return *this;
  }

  // Of the GPU against the CPU, relative.
  double Error() const { return RelativeError(gpu.GetDoubles(), cpu.values()); }

  TestTensor cpu;
  GpuTensor gpu;
};

// Calls body(context, view) for the GPU; view(twin) is an operand's view there.
template <typename Body>
void OnGpu(Body&& body) {
  body(Gpu(), [](GpuTwin& twin) { return TensorView(twin.gpu.view()); });
}
// Then for the CPU, too.
template <typename Body>
void OnBoth(Body&& body) {
  OnGpu(body);
  body(Cpu(), [](GpuTwin& twin) { return twin.cpu.view(); });
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_GPU_TWIN_H_
