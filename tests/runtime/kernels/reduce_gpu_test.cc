#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "runtime/kernels/reduce.h"
#include "tests/support/twin_ops.h"

namespace entrain {
namespace {

struct ColumnCase {
  int64_t width, stride, begin, end;
};

TEST(ColumnSumGpuTest, SumsChosenColumns) {
  ENTRAIN_REQUIRE_GPU();
  // In vectors of 16 bytes over more than a block's columns and in one block, the same of fp32 alone, then one by one for each reason.
  for (const ColumnCase& s : {ColumnCase{408, 408, 8, 400},
                              {24, 32, 0, 24},
                              {204, 204, 4, 200},
                              {12, 16, 0, 12},
                              {151, 160, 3, 150},
                              {20, 20, 2, 18},
                              {20, 21, 0, 20}}) {
    // Within a chunk of 256 rows, and with several.
    for (const int64_t rows : {1, 63, 256, 700}) {
      for (const DType dtype : kFloatTypes) {
        for (const bool accumulate : {false, true}) {
          GpuTwin x = NormalTwin(dtype, {rows, s.width}, 1, 1.0, s.stride);
          GpuTwin out = NormalTwin(DType::kF32, {s.width}, 2);
          ExpectTwins(
              [&](Context& c) {
                ColumnSum(c, {.x = On(c, x),
                              .out = On(c, out),
                              .begin = s.begin,
                              .end = s.end,
                              .accumulate = accumulate});
              },
              // Both sums are made of short ones: each is within a few ulp of Σ|x|.
              {{out, 1e-6}});
        }
      }
    }
  }
}

TEST(ColumnSumGpuTest, LeavesOtherColumnsAlone) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor x(DType::kF32, {2, 8}, std::vector<float>(16, 1.0F));
  GpuTensor out(DType::kF32, {8});
  out.Fill(5.0F);
  ColumnSum(Gpu(), {.x = x, .out = out, .begin = 4, .end = 8});
  EXPECT_EQ(out.Get(), (std::vector<float>{5, 5, 5, 5, 2, 2, 2, 2}));
}

TEST(ColumnSumGpuTest, OfNoColumnsAndNoRows) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor x(DType::kF32, {4, 8});
  GpuTensor out(DType::kF32, {8});
  out.Fill(3.0F);
  ColumnSum(Gpu(), {.x = x, .out = out, .begin = 8, .end = 8});
  EXPECT_EQ(out.Get(), std::vector<float>(8, 3.0F));
  const TensorView none(nullptr, DType::kF32, {0, 8});
  ColumnSum(Gpu(), {.x = none, .out = out, .begin = 0, .end = 8, .accumulate = true});
  EXPECT_EQ(out.Get(), std::vector<float>(8, 3.0F));
  ColumnSum(Gpu(), {.x = none, .out = out, .begin = 0, .end = 4});
  EXPECT_EQ(out.Get(), (std::vector<float>{0, 0, 0, 0, 3, 3, 3, 3}));
}

TEST(SumOfSquaresGpuTest, InDoublePrecision) {
  ENTRAIN_REQUIRE_GPU();
  // Around the 16384 elements of a chunk.
  for (const int64_t size : {2, 6, 16384, 16385, 100003}) {
    GpuTwin x = NormalTwin(DType::kF32, {size}, 1);
    const double sum = SumOfSquares(Gpu(), On(Gpu(), x));
    EXPECT_NEAR(sum / SumOfSquares(Cpu(), On(Cpu(), x)), 1.0, 1e-13);
    EXPECT_EQ(sum, SumOfSquares(Gpu(), On(Gpu(), x)));
    EXPECT_NEAR(SumOfSquares(Gpu(), TailOn(Gpu(), x)) / SumOfSquares(Cpu(), TailOn(Cpu(), x)), 1.0,
                1e-13);
  }
  EXPECT_EQ(SumOfSquares(Gpu(), TensorView(nullptr, DType::kF32, {0})), 0.0);
}

TEST(SumOfSquaresGpuTest, NotFiniteExactlyWhenAnElementIsNot) {
  ENTRAIN_REQUIRE_GPU();
  std::vector<float> values(40000, 3e38F);  // whose squares leave fp32, not fp64
  GpuTensor x(DType::kF32, {40000}, values);
  EXPECT_TRUE(std::isfinite(SumOfSquares(Gpu(), x)));
  for (const float value : {INFINITY, NAN}) {
    values[39999] = value;
    EXPECT_FALSE(std::isfinite(SumOfSquares(Gpu(), x.Set(values))));
  }
}

TEST(AddMeanGpuTest, ScalesAndAccumulates) {
  ENTRAIN_REQUIRE_GPU();
  // Around the 4096 elements of a chunk.
  for (const int64_t size : {1, 4096, 4097, 20001}) {
    GpuTwin x = NormalTwin(DType::kF32, {size}, 1);
    for (const bool accumulate : {false, true}) {
      GpuTwin out = FilledTwin(DType::kF64, {1}, accumulate ? 3.0 : NAN);
      ExpectTwins(
          [&](Context& c) {
            AddMean(c, {.x = On(c, x), .scale = 0.5, .out = On(c, out), .accumulate = accumulate});
          },
          {{out, 1e-12}});
    }
  }
}

}  // namespace
}  // namespace entrain
