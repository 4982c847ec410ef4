// Attention on the GPU for tests, with operands and results in host memory.
#ifndef ENTRAIN_TESTS_SUPPORT_ATTENTION_ON_GPU_H_
#define ENTRAIN_TESTS_SUPPORT_ATTENTION_ON_GPU_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "runtime/device/cuda_device.h"
#include "runtime/device/device_memory.h"
#include "runtime/kernels/attention.h"
#include "tests/support/attention_checks.h"
#include "tests/support/attention_operands.h"
#include "tests/support/gpu_test.h"

namespace entrain {

// A tensor's copy in the GPU's memory, `shift` bytes beyond what memory is aligned to.
class GpuCopy {
 public:
  explicit GpuCopy(const OwnedTensor& host, int64_t shift = 0)
      : memory_(DeviceKind::kCuda, host.view().bytes() + shift),
        data_(static_cast<char*>(memory_.data()) + shift),
        host_(host.view()) {
    CopyToDevice(Gpu(), host_.raw(), data_, host_.bytes());
  }

  TensorView view() const { return host_.Over(data_); }
  void ToHost() const { CopyToHost(Gpu(), data_, host_.raw(), host_.bytes()); }

 private:
  Buffer memory_;
  void* data_;
  TensorView host_;
};

// The ops on the GPU, with operands from and results to those on the host.
inline void ForwardOnGpu(const AttentionOperands& host, int64_t shift = 0) {
  const GpuCopy qkv(host.qkv, shift), temperature(host.temperature), out(host.out), lse(host.lse),
      lse_low(host.lse_low), entropy(host.entropy);
  const bool tempered = host.c.temperature != TemperatureKind::kNone;
  AttentionForward(Gpu(), {.qkv = qkv.view(),
                           .temperature = tempered ? temperature.view() : TensorView(),
                           .out = out.view(),
                           .lse = lse.view(),
                           .lse_low = host.c.lse_low ? lse_low.view() : TensorView(),
                           .entropy = entropy.view()});
  for (const GpuCopy* result : {&out, &lse, &lse_low, &entropy}) result->ToHost();
}

inline void BackwardOnGpu(const AttentionOperands& host, bool accumulate = false,
                          int64_t shift = 0) {
  const GpuCopy qkv(host.qkv, shift), temperature(host.temperature), out(host.out), dout(host.dout),
      lse(host.lse), lse_low(host.lse_low), entropy(host.entropy), gradient(host.entropy_gradient),
      dqkv(host.dqkv), dtemperature(host.dtemperature);
  const bool tempered = host.c.temperature != TemperatureKind::kNone;
  AttentionBackward(Gpu(),
                    {.qkv = qkv.view(),
                     .temperature = tempered ? temperature.view() : TensorView(),
                     .out = out.view(),
                     .dout = dout.view(),
                     .lse = lse.view(),
                     .lse_low = host.c.lse_low ? lse_low.view() : TensorView(),
                     .entropy = entropy.view(),
                     .entropy_gradient = host.c.entropy_gradient ? gradient.view() : TensorView(),
                     .dqkv = dqkv.view(),
                     .dtemperature = tempered ? dtemperature.view() : TensorView(),
                     .accumulate = accumulate});
  dqkv.ToHost();
  dtemperature.ToHost();
}

inline void RunOnGpu(const AttentionOperands& host) {
  ForwardOnGpu(host);
  BackwardOnGpu(host);
}

// Tensor cores cut off what fp32 arithmetic rounds, and exponentials are off by two units in the last place: up to twice the error, of
// which Hopper, whose sums keep more bits, stays below what is asked for (DESIGN.md, Attention on GPUs).
inline double EntropyErrorBound(const Sharpness& sharpness) {
  constexpr double kAskedFor = 5e-6;
  if (OnEmulatedGpu() && std::getenv("ENTRAIN_EMULATED_TENSOR_CORES") == nullptr) {
    return sharpness.entropy_error;
  }
  const double twice = 2 * sharpness.entropy_error;
  return Gpu().cuda().capability < 90 ? twice : std::min(twice, kAskedFor);
}

// Every row's entropy near the float64 reference, none negative, the first row's 0. Says how near.
inline void ExpectExactEntropies(const Sharpness& sharpness, int64_t length) {
  const AttentionOperands operands(CaseOf(sharpness, length));
  ForwardOnGpu(operands);
  const std::vector<double> got = operands.Rows(operands.entropy, 0, 0);
  const double error = MaxDifference(got, operands.Reference(0, 0).entropy);
  std::printf("entropy error %.2g: T %lld, scores up to %g\n", error,
              static_cast<long long>(length), sharpness.max_score);
  EXPECT_LE(error, EntropyErrorBound(sharpness)) << "T " << length << ", " << sharpness.max_score;
  for (const double entropy : got) EXPECT_GE(entropy, 0.0);
  EXPECT_EQ(got[0], 0.0);
}

// A width of each path, and both dtypes of the plain one.
inline std::vector<AttentionCase> CasesOfPaths(AttentionCase c) {
  std::vector<AttentionCase> cases;
  for (const auto& [width, dtype] : {std::pair<int64_t, DType>{64, DType::kBf16},
                                     {128, DType::kBf16},
                                     {24, DType::kBf16},
                                     {16, DType::kF32}}) {
    c.width = width;
    c.dtype = dtype;
    cases.push_back(c);
  }
  return cases;
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_ATTENTION_ON_GPU_H_
