#include "runtime/kernels/residual_norm.h"

#include <gtest/gtest.h>

#include "runtime/kernels/cast.h"
#include "runtime/kernels/layernorm.h"
#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr int64_t kRows = 7, kWidth = 37;

struct Operands {
  explicit Operands(DType dtype) : normed(dtype, {kRows, kWidth}) {
    alpha.Fill(1.5);
    beta.Fill(-0.75);
  }
  ResidualForwardArgs Sum() {
    return {.y = y.view(),
            .f = f.view(),
            .alpha = alpha.view(),
            .beta = beta.view(),
            .out = out.view()};
  }

  TestTensor y = TestTensor::Normal(DType::kF32, {kRows, kWidth}, 1);
  TestTensor f = TestTensor::Normal(DType::kF32, {kRows, kWidth}, 2);
  TestTensor alpha = TestTensor::F32({1}), beta = TestTensor::F32({1});
  TestTensor out = TestTensor::F32({kRows, kWidth});
  TestTensor gain = TestTensor::Normal(DType::kF32, {kWidth}, 3);
  TestTensor bias = TestTensor::Normal(DType::kF32, {kWidth}, 4);
  TestTensor normed;
  TestTensor mean = TestTensor::F32({kRows}), rstd = TestTensor::F32({kRows});
};

TEST(ResidualNormTest, IsTheTwoOpsToTheBit) {
  const auto context = CpuContext(2);
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    Operands one(dtype), two(dtype);
    ResidualNormForward(*context, {.sum = one.Sum(),
                                   .gain = one.gain.view(),
                                   .bias = one.bias.view(),
                                   .normed = one.normed.view(),
                                   .mean = one.mean.view(),
                                   .rstd = one.rstd.view()});
    ResidualForward(*context, two.Sum());
    LayerNormForward(*context, {.x = two.out.view(),
                                .gain = two.gain.view(),
                                .bias = two.bias.view(),
                                .out = two.normed.view(),
                                .mean = two.mean.view(),
                                .rstd = two.rstd.view()});
    EXPECT_EQ(one.out.bytes(), two.out.bytes());
    EXPECT_EQ(one.normed.bytes(), two.normed.bytes());
    EXPECT_EQ(one.mean.bytes(), two.mean.bytes());
    EXPECT_EQ(one.rstd.bytes(), two.rstd.bytes());
  }
}

TEST(ResidualNormTest, WithoutANormItIsACopy) {
  const auto context = CpuContext(2);
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    Operands one(dtype), two(dtype);
    ResidualNormForward(*context, {.sum = one.Sum(), .normed = one.normed.view()});
    ResidualForward(*context, two.Sum());
    Cast(*context, two.out.view(), two.normed.view());
    EXPECT_EQ(one.out.bytes(), two.out.bytes());
    EXPECT_EQ(one.normed.bytes(), two.normed.bytes());
  }
}

TEST(ResidualNormDeathTest, NamesTheOperand) {
  const auto context = CpuContext(1);
  Operands o(DType::kBf16);
  ResidualForwardArgs sum = o.Sum();
  EXPECT_DEATH(ResidualNormForward(*context, {.sum = sum, .normed = sum.out}), "may not alias out");
  EXPECT_DEATH(
      ResidualNormForward(*context, {.sum = sum, .gain = o.gain.view(), .normed = o.normed.view()}),
      "residual norm bias");
  sum.beta = TensorView();
  EXPECT_DEATH(ResidualNormForward(*context, {.sum = sum, .normed = o.normed.view()}),
               "both alpha and beta");
  sum = o.Sum();
  sum.f = o.normed.view();
  EXPECT_DEATH(ResidualNormForward(*context, {.sum = sum, .normed = o.normed.view()}),
               "residual norm f must be f32");
}

}  // namespace
}  // namespace entrain
