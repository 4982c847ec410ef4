#include "runtime/kernels/matmul.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "runtime/kernels/matmul_tuning.h"
#include "tests/support/matmul_operands.h"

namespace entrain {
namespace {

void ExpectCorrect(const MatmulCase& c) {
  for (const int num_threads : {1, 2, 3}) {
    ProductOperands operands(c);
    const Doubles reference = operands.Reference(c);
    const auto context = CpuContext(num_threads);
    Matmul(*context, operands.Args(c));
    EXPECT_LT(RelativeError(operands.out.values(), reference), Tolerance(c.out_dtype))
        << c << " on " << num_threads << " threads";
  }
}

constexpr bool kBoth[] = {false, true};

TEST(MatmulTest, EveryLayoutF32) {
  for (const bool transpose_a : kBoth) {
    for (const bool transpose_b : kBoth) {
      for (const bool accumulate : kBoth) {
        ExpectCorrect({.m = 37,
                       .n = 53,
                       .k = 29,
                       .transpose_a = transpose_a,
                       .transpose_b = transpose_b,
                       .bias = transpose_a != transpose_b,
                       .accumulate = accumulate});
      }
    }
  }
}

TEST(MatmulTest, EveryLayoutBf16) {
  for (const bool transpose_a : kBoth) {
    for (const bool transpose_b : kBoth) {
      for (const DType out : {DType::kF32, DType::kBf16}) {
        ExpectCorrect({.m = 37,
                       .n = 53,
                       .k = 29,
                       .dtype = DType::kBf16,
                       .out_dtype = out,
                       .transpose_a = transpose_a,
                       .transpose_b = transpose_b,
                       .bias = transpose_b,
                       .accumulate = out == DType::kF32});
      }
    }
  }
}

TEST(MatmulTest, Addends) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int64_t padding : {0, 6}) {
      ExpectCorrect({.m = 37,
                     .n = 53,
                     .k = 29,
                     .dtype = dtype,
                     .bias = padding > 0,
                     .addend = true,
                     .padding = padding});
    }
  }
  ExpectCorrect({.m = 3, .n = 5, .k = 20011, .bias = true, .addend = true});
}

// The bits of an addend are those of a copy of it that is added to.
TEST(MatmulTest, AnAddendIsWhatIsAccumulatedOn) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const MatmulCase c = {.m = 37, .n = 53, .k = 29, .dtype = dtype, .bias = true, .addend = true};
    ProductOperands apart(c), over(c), accumulated(c);
    apart.out.Fill(NAN);
    const std::vector<std::byte> before = apart.addend.bytes();
    Matmul(*CpuContext(2), apart.Args(c));
    EXPECT_EQ(apart.addend.bytes(), before);
    for (ProductOperands* copy : {&over, &accumulated}) {
      for (int64_t i = 0; i < c.m * c.n; ++i) copy->out.Set(i, apart.addend.At(i));
    }
    MatmulArgs args = over.Args(c);
    args.addend = args.out;
    Matmul(*CpuContext(2), args);
    EXPECT_EQ(over.out.bytes(), apart.out.bytes());
    args = accumulated.Args(c);
    args.addend = TensorView();
    args.accumulate = true;
    Matmul(*CpuContext(2), args);
    EXPECT_EQ(accumulated.out.bytes(), apart.out.bytes());
  }
}

TEST(MatmulTest, BlockedSizes) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    ExpectCorrect({.m = 128, .n = 192, .k = 256, .dtype = dtype, .bias = true});
    ExpectCorrect({.m = 96, .n = 320, .k = 64, .dtype = dtype, .transpose_b = true});
    ExpectCorrect(
        {.m = 256, .n = 128, .k = 64, .dtype = dtype, .transpose_a = true, .accumulate = true});
  }
}

TEST(MatmulTest, RowStrides) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    ExpectCorrect({.m = 19, .n = 33, .k = 17, .dtype = dtype, .padding = 15});
    ExpectCorrect({.m = 19, .n = 33, .k = 17, .dtype = dtype, .transpose_b = true, .padding = 7});
    ExpectCorrect({.m = 19, .n = 33, .k = 17, .dtype = dtype, .transpose_a = true, .padding = 1});
  }
}

TEST(MatmulTest, ThinSizes) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    ExpectCorrect({.m = 1, .n = 129, .k = 65, .dtype = dtype, .bias = true});
    ExpectCorrect({.m = 1, .n = 129, .k = 65, .dtype = dtype, .transpose_b = true});
    ExpectCorrect({.m = 130, .n = 1, .k = 7, .dtype = dtype});
    ExpectCorrect({.m = 3, .n = 5, .k = 1, .dtype = dtype, .transpose_a = true});
    ExpectCorrect({.m = 1, .n = 1, .k = 1, .dtype = dtype});
  }
}

TEST(MatmulTest, LongSums) {
  for (const bool accumulate : kBoth) {
    for (const bool transpose : kBoth) {
      ExpectCorrect({.m = 3,
                     .n = 5,
                     .k = 20011,
                     .transpose_a = transpose,
                     .transpose_b = !transpose,
                     .bias = true,
                     .accumulate = accumulate,
                     .padding = 1});
    }
    ExpectCorrect({.m = 3, .n = 5, .k = 16384, .accumulate = accumulate});
  }
  ExpectCorrect({.m = 3, .n = 5, .k = 20011, .dtype = DType::kBf16, .out_dtype = DType::kBf16});
}

TEST(MatmulTest, PaddingBetweenRowsIsLeftAlone) {
  const MatmulCase c = {.m = 5, .n = 6, .k = 7, .padding = 3};
  ProductOperands operands(c);
  const std::vector<std::byte> before = operands.out.bytes();
  Matmul(*CpuContext(2), operands.Args(c));
  const auto* now = reinterpret_cast<const float*>(operands.out.bytes().data());
  for (int64_t row = 0; row < c.m; ++row) {
    for (int64_t i = c.n; i < c.n + c.padding; ++i) EXPECT_EQ(now[row * (c.n + c.padding) + i], 0);
  }
}

TEST(MatmulTest, SameBitsEveryTime) {
  for (const int num_threads : {1, 2}) {
    const MatmulCase c = {.m = 130, .n = 70, .k = 300, .transpose_a = true};
    const auto context = CpuContext(num_threads);
    ProductOperands first(c);
    Matmul(*context, first.Args(c));
    ProductOperands second(c);
    Matmul(*CpuContext(num_threads), second.Args(c));
    EXPECT_EQ(first.out.bytes(), second.out.bytes());
  }
}

TEST(MatmulTest, OneContextServesManyShapes) {
  const auto context = CpuContext(2);
  for (const int64_t n : {16, 64, 17, 64, 16}) {
    const MatmulCase c = {.m = 8, .n = n, .k = 32};
    ProductOperands operands(c);
    Matmul(*context, operands.Args(c));
    EXPECT_LT(RelativeError(operands.out.values(), operands.Reference(c)), 2e-6) << c;
  }
}

TEST(MatmulTest, NonFiniteGoesThrough) {
  const MatmulCase c = {.m = 4, .n = 4, .k = 4};
  ProductOperands operands(c);
  operands.a.Set(5, NAN);
  Matmul(*CpuContext(1), operands.Args(c));
  EXPECT_TRUE(std::isnan(operands.out.At(4)));
  EXPECT_FALSE(std::isnan(operands.out.At(0)));
}

TEST(MatmulTuningTest, NothingOnTheCpu) {
  const auto context = CpuContext(1);
  EXPECT_TRUE(TuneMatmuls(*context, {}).empty());
  EXPECT_EQ(MatmulTable(*context), "");
  EXPECT_EQ(UseMatmulTable(*context, "anything").value(), 0);
}

TEST(MatmulDeathTest, NamesTheOperand) {
  const auto context = CpuContext(1);
  TestTensor a = TestTensor::F32({3, 4});
  TestTensor b = TestTensor::F32({5, 6});
  TestTensor out = TestTensor::F32({3, 6});
  EXPECT_DEATH(Matmul(*context, {.a = a.view(), .b = b.view(), .out = out.view()}),
               "matmul b, dim 0: f32 \\[5, 6\\]");
  TestTensor half(DType::kBf16, {3, 6});
  TestTensor right = TestTensor::F32({4, 6});
  EXPECT_DEATH(Matmul(*context, {.a = a.view(), .b = right.view(), .out = half.view()}),
               "a bf16 out takes bf16 operands");
  TestTensor left(DType::kBf16, {3, 4}), right_half(DType::kBf16, {4, 6});
  EXPECT_DEATH(
      Matmul(*context,
             {.a = left.view(), .b = right_half.view(), .out = half.view(), .addend = out.view()}),
      "accumulates in f32 only");
  EXPECT_DEATH(Matmul(*context, {.a = a.view(),
                                 .b = right.view(),
                                 .out = out.view(),
                                 .addend = out.view(),
                                 .accumulate = true}),
               "not both");
  EXPECT_DEATH(
      Matmul(*context, {.a = a.view(), .b = right.view(), .out = out.view(), .addend = a.view()}),
      "matmul addend, dim 1");
  TestTensor bias = TestTensor::F32({5});
  EXPECT_DEATH(
      Matmul(*context, {.a = a.view(), .b = right.view(), .out = out.view(), .bias = bias.view()}),
      "matmul bias, dim 0");
}

}  // namespace
}  // namespace entrain
