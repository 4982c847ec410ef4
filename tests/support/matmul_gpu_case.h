// Matrix products on the GPU and their twins on the CPU.
#ifndef ENTRAIN_TESTS_SUPPORT_MATMUL_GPU_CASE_H_
#define ENTRAIN_TESTS_SUPPORT_MATMUL_GPU_CASE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <ostream>
#include <vector>

#include "runtime/base/philox.h"
#include "runtime/kernels/matmul.h"
#include "tests/support/gpu_test.h"
#include "tests/support/matmul_operands.h"
#include "tests/support/test_tensor.h"

namespace entrain {

inline std::vector<float> NormalVector(int64_t size, uint64_t stream) {
  std::vector<float> values;
  for (int64_t i = 0; i < size; ++i)
    values.push_back(NormalAt(11, stream, static_cast<uint64_t>(i)));
  return values;
}

// A tensor on both devices, of the same bits.
struct TensorTwin {
  GpuTensor gpu;
  TestTensor cpu;

  TensorTwin(DType dtype, int64_t rows, int64_t columns, uint64_t stream, int64_t padding = 0)
      : gpu(dtype, {rows, columns}, columns + padding),
        cpu(dtype, {rows, columns}, columns + padding) {
    Set(NormalVector(rows * columns, stream));
  }
  void Set(const std::vector<float>& values) {
    gpu.Set(values);
    for (size_t i = 0; i < values.size(); ++i) cpu.Set(static_cast<int64_t>(i), values[i]);
  }
  void Fill(float value) { Set(std::vector<float>(static_cast<size_t>(cpu.size()), value)); }
  double Error() const {
    const std::vector<float> values = gpu.Get();
    return RelativeError(Doubles(values.begin(), values.end()), cpu.values());
  }
};

struct MatmulOperandTwins {
  TensorTwin a, b, out, bias, aux, addend;

  // What a product overwrites is NaN.
  explicit MatmulOperandTwins(const MatmulCase& c)
      : a(c.dtype, c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k, 1, c.padding),
        b(c.dtype, c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n, 2, c.padding),
        out(c.out_dtype, c.m, c.n, 3, c.padding),
        bias(DType::kF32, 1, c.n, 4),
        aux(c.out_dtype, c.m, c.n, 5),
        addend(DType::kF32, c.m, c.n, 6, c.padding / 2) {
    if (!c.accumulate) out.Fill(NAN);
    if (c.epilogue == MatmulEpilogue::kGelu) aux.Fill(NAN);
  }

  MatmulArgs GpuArgs(const MatmulCase& c) const {
    return Args(c, a.gpu.view(), b.gpu.view(), out.gpu.view(), bias.gpu.view(), aux.gpu.view(),
                addend.gpu.view());
  }
  MatmulArgs CpuArgs(const MatmulCase& c) {
    return Args(c, a.cpu.view(), b.cpu.view(), out.cpu.view(), bias.cpu.view(), aux.cpu.view(),
                addend.cpu.view());
  }

 private:
  static MatmulArgs Args(const MatmulCase& c, const TensorView& a, const TensorView& b,
                         const TensorView& out, const TensorView& bias, const TensorView& aux,
                         const TensorView& addend) {
    return {.a = a,
            .b = b,
            .out = out,
            .bias = c.bias ? bias.Reshape({c.n}) : TensorView(),
            .addend = c.addend ? addend : TensorView(),
            .transpose_a = c.transpose_a,
            .transpose_b = c.transpose_b,
            .accumulate = c.accumulate,
            .epilogue = c.epilogue,
            .aux = c.epilogue == MatmulEpilogue::kNone ? TensorView() : aux};
  }
};

// Both sum fp32 products of the same numbers, in other orders: √K roundings of 2⁻²⁴ apart, more of them where tensor cores cut
// what they add. A bf16 out rounds each to 2⁻⁹, seldom to different sides; its bias, of the size of one of the K terms, was rounded
// too.
inline double ToleranceOf(const MatmulCase& c) {
  if (c.out_dtype == DType::kBf16) return 3e-3;
  const double roundings = std::max(16.0, std::sqrt(static_cast<double>(c.k))) / 16.0;
  return (c.dtype == DType::kBf16 ? 1e-5 : 2e-6) * roundings;
}

// The bits of out, on a context.
inline std::vector<uint8_t> OutBits(Context& context, const MatmulCase& c) {
  const MatmulOperandTwins operands(c);
  Matmul(context, operands.GpuArgs(c));
  Synchronize(context);
  return operands.out.gpu.Bytes();
}

inline std::unique_ptr<Context> OtherContext() { return Context::CreateCuda(0, 2).value(); }

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_MATMUL_GPU_CASE_H_
