#include "runtime/kernels/cast.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr DType kFloats[] = {DType::kF32, DType::kBf16};

TEST(CastTest, EveryPairOfTypes) {
  for (const DType in : kFloats) {
    for (const DType out : kFloats) {
      for (const int64_t size : {1, 17, 40001}) {
        const auto outputs = OnAnyThreads([&](Context& context) {
          TestTensor from = TestTensor::Normal(in, {size}, 1);
          TestTensor to(out, {size});
          Cast(context, from.view(), to.view());
          return std::vector{to};
        });
        const TestTensor from = TestTensor::Normal(in, {size}, 1);
        TestTensor expected(out, {size});
        for (int64_t i = 0; i < size; ++i) expected.Set(i, from.At(i));
        EXPECT_EQ(outputs[0].bytes(), expected.bytes());
      }
    }
  }
}

TEST(CastTest, RoundsAsBf16DoesAtEveryEnd) {
  constexpr float kValues[] = {0.0F,
                               -0.0F,
                               1.00390625F,  // halfway, to even below
                               1.01171875F,  // halfway, to even above
                               1.0039063F,   // above halfway
                               3.4e38F,      // rounds to infinity
                               1e-39F,       // denormal
                               std::numeric_limits<float>::denorm_min(),
                               std::numeric_limits<float>::infinity(),
                               -std::numeric_limits<float>::infinity()};
  TestTensor from = TestTensor::F32({std::ssize(kValues)});
  TestTensor to(DType::kBf16, {std::ssize(kValues)});
  for (int64_t i = 0; i < std::ssize(kValues); ++i) from.Set(i, kValues[i]);
  Cast(*CpuContext(1), from.view(), to.view());
  for (int64_t i = 0; i < std::ssize(kValues); ++i) {
    EXPECT_EQ(to.view().data<Bf16>()[i].bits, Bf16(kValues[i]).bits) << kValues[i];
  }
}

TEST(CastTest, NaNStaysNaN) {
  TestTensor from = TestTensor::F32({20});
  TestTensor to(DType::kBf16, {20});
  // The bits that truncation alone would turn into infinity, and that rounding would turn into −0.
  from.Fill(std::bit_cast<float>(0x7f800001U));
  from.Set(3, std::bit_cast<float>(0x7fffffffU));
  Cast(*CpuContext(1), from.view(), to.view());
  for (int64_t i = 0; i < to.size(); ++i) EXPECT_TRUE(std::isnan(to.At(i)));
}

TEST(CastTest, RowStrides) {
  TestTensor from = TestTensor::Normal(DType::kF32, {5, 19}, 1, 1.0, 32);
  TestTensor to(DType::kBf16, {5, 19}, 23);
  Cast(*CpuContext(2), from.view(), to.view());
  for (int64_t i = 0; i < to.size(); ++i) {
    EXPECT_EQ(to.At(i), static_cast<float>(Bf16(static_cast<float>(from.At(i)))));
  }
}

TEST(CastDeathTest, SaysBothShapes) {
  TestTensor from = TestTensor::F32({4, 2});
  TestTensor to = TestTensor::F32({2, 4});
  const auto context = CpuContext(1);
  EXPECT_DEATH(Cast(*context, from.view(), to.view()),
               "cast from f32 \\[4, 2\\] to f32 \\[2, 4\\]");
}

}  // namespace
}  // namespace entrain
