#include "runtime/kernels/residual.h"

#include <gtest/gtest.h>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr double kAlpha = 1.5;
constexpr double kBeta = -0.75;

TestTensor Scalar(double value) {
  TestTensor scalar = TestTensor::F32({1});
  scalar.Set(0, value);
  return scalar;
}

struct Operands {
  TestTensor y, f, dout;

  Operands(int64_t rows, int64_t width, DType dtype)
      : y(TestTensor::Normal(DType::kF32, {rows, width}, 1)),
        f(TestTensor::Normal(dtype, {rows, width}, 2)),
        dout(TestTensor::Normal(DType::kF32, {rows, width}, 3)) {}
};

TEST(ResidualTest, Forward) {
  for (const bool scaled : {false, true}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      const auto outputs = OnAnyThreads([&](Context& context) {
        Operands o(9, 1031, dtype);
        TestTensor alpha = Scalar(kAlpha);
        TestTensor beta = Scalar(kBeta);
        ResidualForward(context, {.y = o.y.view(),
                                  .f = o.f.view(),
                                  .alpha = scaled ? alpha.view() : TensorView(),
                                  .beta = scaled ? beta.view() : TensorView(),
                                  .out = o.y.view()});
        return std::vector{o.y};
      });
      Operands fresh(9, 1031, dtype);
      Doubles reference;
      for (int64_t i = 0; i < fresh.y.size(); ++i) {
        reference.push_back((scaled ? kBeta : 1.0) * fresh.y.At(i) +
                            fresh.f.At(i) / (scaled ? kAlpha : 1.0));
      }
      EXPECT_LT(RelativeError(outputs[0].values(), reference), 1e-6);
    }
  }
}

std::vector<TestTensor> ScaledBackward(Context& context, DType dtype, bool accumulate) {
  Operands o(9, 1031, dtype);
  TestTensor alpha = Scalar(kAlpha);
  TestTensor beta = Scalar(kBeta);
  TestTensor dalpha = Scalar(10.0);
  TestTensor dbeta = Scalar(20.0);
  TestTensor df(dtype, {9, 1031});
  ResidualBackward(context, {.dout = o.dout.view(),
                             .y = o.y.view(),
                             .f = o.f.view(),
                             .alpha = alpha.view(),
                             .beta = beta.view(),
                             .dy = o.dout.view(),
                             .df = df.view(),
                             .dalpha = dalpha.view(),
                             .dbeta = dbeta.view(),
                             .accumulate = accumulate});
  return {o.dout, df, dalpha, dbeta};
}

TEST(ResidualTest, ScaledBackwardOverItsGradient) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const bool accumulate : {false, true}) {
      const auto outputs = OnAnyThreads(
          [&](Context& context) { return ScaledBackward(context, dtype, accumulate); });
      Operands fresh(9, 1031, dtype);
      Doubles dy = fresh.dout.values();
      Doubles df = dy;
      const double dalpha = -Dot(dy, fresh.f.values()) / (kAlpha * kAlpha);
      const double dbeta = Dot(dy, fresh.y.values());
      for (double& value : dy) value *= kBeta;
      for (double& value : df) value /= kAlpha;
      EXPECT_LT(RelativeError(outputs[0].values(), dy), 1e-6);
      EXPECT_LT(RelativeError(outputs[1].values(), df), Tolerance(dtype));
      EXPECT_NEAR(outputs[2].At(0), dalpha + (accumulate ? 10.0 : 0.0), 1e-6 * std::abs(dalpha));
      EXPECT_NEAR(outputs[3].At(0), dbeta + (accumulate ? 20.0 : 0.0), 1e-6 * std::abs(dbeta));
    }
  }
}

TEST(ResidualTest, PlainBackwardNeedsNeitherInput) {
  TestTensor dout = TestTensor::Normal(DType::kF32, {3, 21}, 3);
  TestTensor dy = TestTensor::F32({3, 21});
  TestTensor df(DType::kBf16, {3, 21});
  const auto context = CpuContext(2);
  ResidualBackward(*context, {.dout = dout.view(), .dy = dy.view(), .df = df.view()});
  EXPECT_EQ(dy.bytes(), dout.bytes());
  EXPECT_LT(RelativeError(df.values(), dout.values()), 4e-3);
  ResidualBackward(*context, {.dout = dout.view(), .dy = dout.view(), .df = df.view()});
  EXPECT_EQ(dy.bytes(), dout.bytes());
}

TEST(ResidualDeathTest, TakesBothScalarsOrNeither) {
  Operands o(2, 2, DType::kF32);
  TestTensor alpha = Scalar(1.0);
  const auto context = CpuContext(1);
  EXPECT_DEATH(
      ResidualForward(*context,
                      {.y = o.y.view(), .f = o.f.view(), .alpha = alpha.view(), .out = o.y.view()}),
      "both alpha and beta, or neither");
}

}  // namespace
}  // namespace entrain
