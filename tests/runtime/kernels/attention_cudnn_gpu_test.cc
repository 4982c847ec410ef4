// cuDNN's attention on a real GPU, held against the CPU's on the same bf16 operands. An emulated GPU has no cuDNN.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/philox.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/attention.h"
#include "runtime/kernels/attention_cudnn_cuda.h"
#include "tests/support/gpu_test.h"
#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

using Floats = std::vector<float>;

const absl::StatusOr<std::unique_ptr<CudnnAttention>>& CudnnOrNot() {
  static const auto* attention = new absl::StatusOr<std::unique_ptr<CudnnAttention>>(
      CudnnAttention::Create(Gpu().cuda().ordinal));
  return *attention;
}

#define REQUIRE_CUDNN()  \
  ENTRAIN_REQUIRE_GPU(); \
  if (!CudnnOrNot().ok()) GTEST_SKIP() << CudnnOrNot().status().message()

Floats Values(const TestTensor& tensor) {
  Floats values;
  for (int64_t i = 0; i < tensor.size(); ++i) values.push_back(static_cast<float>(tensor.At(i)));
  return values;
}

// Operands and the CPU's results.
struct Case {
  AttentionShape shape;
  TestTensor qkv, dout, entropy_gradient;
  TestTensor out, lse, lse_low, entropy, dqkv;

  // query_scale: the larger, the sharper the attention.
  Case(const AttentionShape& s, double dout_scale, double query_scale)
      : shape(s),
        qkv(TestTensor::Normal(DType::kBf16, {s.batch, s.positions, 3, s.heads, s.width}, 1)),
        dout(TestTensor::Normal(DType::kBf16, {s.batch, s.positions, s.heads, s.width}, 2,
                                dout_scale)),
        entropy_gradient(TestTensor::Normal(DType::kF32, {s.batch, s.heads, s.positions}, 3)),
        out(DType::kBf16, {s.batch, s.positions, s.heads, s.width}),
        lse(DType::kF32, {s.batch, s.heads, s.positions}),
        lse_low(DType::kF32, {s.batch, s.heads, s.positions}),
        entropy(DType::kF32, {s.batch, s.heads, s.positions}),
        dqkv(DType::kBf16, {s.batch, s.positions, 3, s.heads, s.width}) {
    for (int64_t i = 0; i < qkv.size(); ++i) {
      if (i / (s.heads * s.width) % 3 == 0) qkv.Set(i, query_scale * qkv.At(i));
    }
    AttentionForward(Cpu(), {.qkv = qkv.view(),
                             .out = out.view(),
                             .lse = lse.view(),
                             .lse_low = lse_low.view(),
                             .entropy = entropy.view()});
  }

  // Makes the entropy's gradient one that the pass can take, and dqkv.
  void Backward(AttentionPass pass) {
    if (pass == AttentionPass::kBackwardHeadEntropy) {
      for (int64_t i = 0; i < entropy_gradient.size(); ++i) {
        const int64_t head = i / shape.positions % shape.heads;
        entropy_gradient.Set(i, entropy_gradient.At(head * shape.positions));
      }
    }
    AttentionBackwardArgs args = {.qkv = qkv.view(),
                                  .out = out.view(),
                                  .dout = dout.view(),
                                  .lse = lse.view(),
                                  .lse_low = lse_low.view(),
                                  .entropy = entropy.view(),
                                  .dqkv = dqkv.view()};
    if (pass != AttentionPass::kBackward) args.entropy_gradient = entropy_gradient.view();
    AttentionBackward(Cpu(), args);
  }

  // As cuDNN's pass takes it.
  Floats EntropyGradient(AttentionPass pass) const {
    Floats values = Values(entropy_gradient);
    if (pass != AttentionPass::kBackwardHeadEntropy) return values;
    Floats heads;
    for (int64_t h = 0; h < shape.heads; ++h) heads.push_back(values[h * shape.positions]);
    return heads;
  }
};

// cuDNN's results.
struct Results {
  Floats out, lse, dqkv;
};

Results OnGpu(const Case& c, AttentionPass pass, bool deterministic) {
  CudnnAttention& attention = **CudnnOrNot();
  const auto [batch, positions, heads, width] = c.shape;
  cudaStream_t stream = Gpu().cuda().stream;
  GpuTensor qkv(DType::kBf16, {batch, positions, 3, heads, width}, Values(c.qkv));
  GpuTensor out(DType::kBf16, {batch, positions, heads, width});
  GpuTensor lse(DType::kF32, {batch, heads, positions});
  GpuTensor dout(DType::kBf16, {batch, positions, heads, width}, Values(c.dout));
  GpuTensor entropy(DType::kF32, {batch, heads, positions}, Values(c.entropy));
  const Floats gradient_values = c.EntropyGradient(pass);
  GpuTensor gradient(DType::kF32, {std::ssize(gradient_values)}, gradient_values);
  GpuTensor dqkv(DType::kBf16, {batch, positions, 3, heads, width});
  dqkv.Fill(NAN);
  out.Fill(NAN);

  const CudnnAttention::Key forward = {AttentionPass::kForward, c.shape};
  const CudnnAttention::Key backward = {pass, c.shape, deterministic};
  const int64_t bytes = std::max(attention.Prepare(forward).value().workspace_bytes,
                                 attention.Prepare(backward).value().workspace_bytes);
  GpuTensor workspace(DType::kF32, {bytes / 4 + 1});
  const absl::Status forward_status =
      attention.Forward(c.shape, {qkv.view().raw(), out.view().raw(), lse.view().data<float>()},
                        workspace.view().raw(), stream);
  EXPECT_TRUE(forward_status.ok()) << forward_status;
  const absl::Status backward_status = attention.Backward(
      backward,
      {qkv.view().raw(), out.view().raw(), dout.view().raw(), lse.view().data<float>(),
       entropy.view().data<float>(), gradient.view().data<float>(), dqkv.view().raw()},
      workspace.view().raw(), stream);
  EXPECT_TRUE(backward_status.ok()) << backward_status;
  return {out.Get(), lse.Get(), dqkv.Get()};
}

// ‖actual − expected‖ / ‖expected‖ over the elements i for which part(i).
template <typename Part>
double RelativeError(const Floats& actual, const Floats& expected, Part part) {
  double error = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (!part(static_cast<int64_t>(i))) continue;
    error += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(error / norm);
}

// cuDNN rounds probabilities and the scores' gradient to bf16 (2⁻⁹ each, at most) before it multiplies them, the CPU does
// not, and both round the result.
constexpr double kTolerance = 8e-3;

void ExpectTheSame(const Results& actual, const Case& c) {
  const auto all = [](int64_t) { return true; };
  EXPECT_LT(RelativeError(actual.out, Values(c.out), all), kTolerance) << "out";
  EXPECT_LT(RelativeError(actual.lse, Values(c.lse), all), 1e-5) << "lse";
  const Floats expected = Values(c.dqkv);
  for (int64_t k = 0; k < 3; ++k) {
    const auto part = [&](int64_t i) { return i / (c.shape.heads * c.shape.width) % 3 == k; };
    // dv is 0 where dout is.
    if (k == 2 && c.dout.At(0) == 0.0) continue;
    EXPECT_LT(RelativeError(actual.dqkv, expected, part), kTolerance) << "dq, dk or dv: " << k;
  }
}

const std::vector<AttentionShape> kShapes = {
    {2, 128, 3, 64}, {1, 333, 2, 64}, {2, 512, 2, 64}, {1, 1024, 2, 64}, {1, 200, 2, 128}};

class AttentionCudnnGpuTest : public testing::TestWithParam<std::tuple<AttentionPass, bool>> {};

TEST_P(AttentionCudnnGpuTest, IsTheCpus) {
  REQUIRE_CUDNN();
  const auto [pass, deterministic] = GetParam();
  for (const AttentionShape& shape : kShapes) {
    const absl::Status supported = (*CudnnOrNot())->Supported({pass, shape, deterministic});
    if (absl::IsUnimplemented(supported)) GTEST_SKIP() << supported.message();
    // The entropy's gradient alone, both, and both for sharp attention.
    for (const auto& [dout_scale, query_scale] : {std::pair{0.0, 1.0}, {1.0, 1.0}, {1.0, 6.0}}) {
      if (pass == AttentionPass::kBackward && dout_scale == 0.0) continue;
      SCOPED_TRACE(testing::Message() << "T " << shape.positions << " D " << shape.width << " dout "
                                      << dout_scale << " q " << query_scale);
      Case c(shape, dout_scale, query_scale);
      c.Backward(pass);
      const Results results = OnGpu(c, pass, deterministic);
      ExpectTheSame(results, c);
      if (deterministic) {
        EXPECT_EQ(results.dqkv, OnGpu(c, pass, deterministic).dqkv);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Passes, AttentionCudnnGpuTest,
                         testing::Combine(testing::Values(AttentionPass::kBackward,
                                                          AttentionPass::kBackwardHeadEntropy,
                                                          AttentionPass::kBackwardRowEntropy),
                                          testing::Bool()));

}  // namespace
}  // namespace entrain
