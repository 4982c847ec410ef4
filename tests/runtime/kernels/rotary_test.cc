#include "runtime/kernels/rotary.h"

#include <gtest/gtest.h>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr int64_t kBatch = 2;
constexpr int64_t kPositions = 9;
constexpr int64_t kHeads = 3;
constexpr int64_t kWidth = 20;

TestTensor Qkv(DType dtype) {
  return TestTensor::Normal(dtype, {kBatch, kPositions, 3, kHeads, kWidth}, 1);
}

Doubles Reference(Doubles x, int64_t rotary_dims, int64_t first_position) {
  const int64_t pairs = rotary_dims / 2;
  for (int64_t head = 0; head < std::ssize(x) / kWidth; ++head) {
    if (head / kHeads % 3 == 2) continue;
    const int64_t position = first_position + head / (3 * kHeads) % kPositions;
    for (int64_t m = 0; m < pairs; ++m) {
      const double angle =
          static_cast<double>(position) *
          std::pow(10000.0, -2.0 * static_cast<double>(m) / static_cast<double>(rotary_dims));
      double& first = x[head * kWidth + m];
      double& second = x[head * kWidth + m + pairs];
      const double turned = first * std::cos(angle) - second * std::sin(angle);
      second = second * std::cos(angle) + first * std::sin(angle);
      first = turned;
    }
  }
  return x;
}

TEST(RotaryTest, TurnsQueriesAndKeys) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int64_t rotary_dims : {0, 2, 4, 20}) {
      const auto outputs = OnAnyThreads([&](Context& context) {
        TestTensor qkv = Qkv(dtype);
        Rotary(context, {.qkv = qkv.view(), .rotary_dims = rotary_dims, .first_position = 5});
        return std::vector{qkv};
      });
      EXPECT_LT(RelativeError(outputs[0].values(), Reference(Qkv(dtype).values(), rotary_dims, 5)),
                Tolerance(dtype));
    }
  }
}

TEST(RotaryTest, InverseTurnsBack) {
  TestTensor qkv = Qkv(DType::kF32);
  const auto context = CpuContext(2);
  Rotary(*context, {.qkv = qkv.view(), .rotary_dims = 8, .first_position = 3});
  EXPECT_GT(RelativeError(qkv.values(), Qkv(DType::kF32).values()), 0.1);
  Rotary(*context, {.qkv = qkv.view(), .rotary_dims = 8, .first_position = 3, .inverse = true});
  EXPECT_LT(RelativeError(qkv.values(), Qkv(DType::kF32).values()), 1e-6);
}

TEST(RotaryTest, OneContextServesGrowingPositions) {
  const auto context = CpuContext(1);
  for (const int64_t first : {0, 100, 3, 1000}) {
    TestTensor qkv = Qkv(DType::kF32);
    Rotary(*context, {.qkv = qkv.view(), .rotary_dims = 4, .first_position = first});
    EXPECT_LT(RelativeError(qkv.values(), Reference(Qkv(DType::kF32).values(), 4, first)), 1e-6);
  }
}

TEST(RotaryDeathTest, OddDims) {
  TestTensor qkv = Qkv(DType::kF32);
  const auto context = CpuContext(1);
  EXPECT_DEATH(Rotary(*context, {.qkv = qkv.view(), .rotary_dims = 3}),
               "rotary_dims 3 of head width 20");
  EXPECT_DEATH(Rotary(*context, {.qkv = qkv.view(), .rotary_dims = 22}),
               "rotary_dims 22 of head width 20");
}

}  // namespace
}  // namespace entrain
