#include "runtime/device/gpu_limits.h"

#include <gtest/gtest.h>

namespace entrain {
namespace {

TEST(GpuLimits, AreKnownByTheNameOfTheDevice) {
  EXPECT_EQ(LimitsOf("NVIDIA H100 80GB HBM3").bf16_flops, 989e12);
  EXPECT_EQ(LimitsOf("NVIDIA H200").bf16_flops, 989e12);
  EXPECT_EQ(LimitsOf("NVIDIA A100-SXM4-40GB").bf16_flops, 312e12);
  EXPECT_EQ(LimitsOf("NVIDIA A100-SXM4-80GB").bf16_flops, 312e12);
}

TEST(GpuLimits, OfAnotherPartOfThatNameAreItsOwn) {
  EXPECT_LT(LimitsOf("NVIDIA H100 PCIe").bf16_flops, LimitsOf("NVIDIA H100").bf16_flops);
  EXPECT_LT(LimitsOf("NVIDIA H200 NVL").bf16_flops, LimitsOf("NVIDIA H200").bf16_flops);
}

TEST(GpuLimits, OfAnotherDeviceAreNotKnown) {
  EXPECT_EQ(LimitsOf("emulated GPU").bf16_flops, 0.0);
  EXPECT_EQ(LimitsOf("").bytes, 0.0);
}

}  // namespace
}  // namespace entrain
