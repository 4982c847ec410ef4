#include "runtime/kernels/reduce.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

TEST(ColumnSumTest, SumsChosenColumns) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int64_t rows : {1, 63, 200}) {
      for (const bool accumulate : {false, true}) {
        const int64_t width = 151;
        const int64_t begin = 3;
        const int64_t end = 150;
        const auto outputs = OnAnyThreads([&](Context& context) {
          TestTensor x = TestTensor::Normal(dtype, {rows, width}, 1, 1.0, width + 9);
          TestTensor out = TestTensor::Normal(DType::kF32, {width}, 2);
          ColumnSum(context, {.x = x.view(),
                              .out = out.view(),
                              .begin = begin,
                              .end = end,
                              .accumulate = accumulate});
          return std::vector{out};
        });
        const TestTensor x = TestTensor::Normal(dtype, {rows, width}, 1);
        Doubles reference = TestTensor::Normal(DType::kF32, {width}, 2).values();
        for (int64_t c = begin; c < end; ++c) {
          if (!accumulate) reference[c] = 0.0;
          for (int64_t r = 0; r < rows; ++r) reference[c] += x.At(r * width + c);
        }
        EXPECT_LT(RelativeError(outputs[0].values(), reference), 1e-6);
        EXPECT_EQ(outputs[0].At(2), static_cast<float>(reference[2]));
        EXPECT_EQ(outputs[0].At(150), static_cast<float>(reference[150]));
      }
    }
  }
}

TEST(ColumnSumTest, NoColumns) {
  TestTensor x = TestTensor::Normal(DType::kF32, {4, 8}, 1);
  TestTensor out = TestTensor::F32({8});
  ColumnSum(*CpuContext(2), {.x = x.view(), .out = out.view(), .begin = 8, .end = 8});
  EXPECT_EQ(out.values(), Doubles(8, 0.0));
}

TEST(ColumnSumDeathTest, SaysTheRange) {
  TestTensor x = TestTensor::F32({4, 8});
  TestTensor out = TestTensor::F32({8});
  const auto context = CpuContext(1);
  EXPECT_DEATH(ColumnSum(*context, {.x = x.view(), .out = out.view(), .begin = 2, .end = 9}),
               "column sum over \\[2, 9\\) of 8 columns");
}

TEST(SumOfSquaresTest, InDoublePrecision) {
  for (const int64_t size : {1, 5, 16384, 16385, 100003}) {
    TestTensor x = TestTensor::Normal(DType::kF32, {size}, 1);
    const double one = SumOfSquares(*CpuContext(1), x.view());
    EXPECT_NEAR(one / Dot(x.values(), x.values()), 1.0, 1e-13);
    EXPECT_EQ(one, SumOfSquares(*CpuContext(2), x.view()));
    EXPECT_EQ(one, SumOfSquares(*CpuContext(3), x.view()));
  }
}

TEST(SumOfSquaresTest, NotFiniteExactlyWhenAnElementIsNot) {
  const auto context = CpuContext(2);
  TestTensor x = TestTensor::F32({40000});
  x.Fill(3e38);  // its square leaves fp32, not fp64
  EXPECT_TRUE(std::isfinite(SumOfSquares(*context, x.view())));
  x.Set(39999, INFINITY);
  EXPECT_FALSE(std::isfinite(SumOfSquares(*context, x.view())));
  x.Set(39999, NAN);
  EXPECT_FALSE(std::isfinite(SumOfSquares(*context, x.view())));
  EXPECT_EQ(SumOfSquares(*context, TestTensor::F32({0}).view()), 0.0);
}

TEST(AddMeanTest, ScalesAndAccumulates) {
  TestTensor x = TestTensor::Normal(DType::kF32, {1001}, 1);
  TestTensor out(DType::kF64, {1});
  out.Fill(NAN);
  double sum = 0.0;
  for (const double value : x.values()) sum += value;
  const auto context = CpuContext(2);
  AddMean(*context, {.x = x.view(), .scale = 0.25, .out = out.view()});
  EXPECT_DOUBLE_EQ(out.At(0), 0.25 * sum / 1001);
  AddMean(*context, {.x = x.view(), .scale = 0.25, .out = out.view(), .accumulate = true});
  EXPECT_DOUBLE_EQ(out.At(0), 0.5 * sum / 1001);
}

}  // namespace
}  // namespace entrain
