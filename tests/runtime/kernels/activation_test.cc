#include "runtime/kernels/activation.h"

#include <gtest/gtest.h>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr Activation kAll[] = {Activation::kGelu, Activation::kRelu};

double Reference(Activation kind, double x) {
  if (kind == Activation::kRelu) return std::max(x, 0.0);
  const double u = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1.0 + std::tanh(u));
}

double Derivative(Activation kind, double x) {
  return (Reference(kind, x + 1e-5) - Reference(kind, x - 1e-5)) / 2e-5;
}

TestTensor Inputs(DType dtype, int64_t size) {
  TestTensor x = TestTensor::Normal(dtype, {size}, 1, 2.0);
  x.Set(0, 0.5);
  return x;
}

TEST(ActivationTest, Forward) {
  for (const Activation kind : kAll) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const int64_t size : {1, 15, 16, 1001, 20000}) {
        const auto outputs = OnAnyThreads([&](Context& context) {
          TestTensor x = Inputs(dtype, size);
          ActivationForward(context, {.kind = kind, .x = x.view(), .out = x.view()});
          return std::vector{x};
        });
        Doubles reference = Inputs(dtype, size).values();
        for (double& value : reference) value = Reference(kind, value);
        EXPECT_LT(RelativeError(outputs[0].values(), reference), Tolerance(dtype));
      }
    }
  }
}

TEST(ActivationTest, Backward) {
  for (const Activation kind : kAll) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const int64_t size : {1, 33, 20000}) {
        const auto outputs = OnAnyThreads([&](Context& context) {
          TestTensor x = Inputs(dtype, size);
          TestTensor gradient = TestTensor::Normal(dtype, {size}, 2);
          ActivationBackward(
              context,
              {.kind = kind, .x = x.view(), .dout = gradient.view(), .dx = gradient.view()});
          return std::vector{gradient};
        });
        const Doubles x = Inputs(dtype, size).values();
        Doubles reference = TestTensor::Normal(dtype, {size}, 2).values();
        for (size_t i = 0; i < x.size(); ++i) reference[i] *= Derivative(kind, x[i]);
        EXPECT_LT(RelativeError(outputs[0].values(), reference), Tolerance(dtype));
      }
    }
  }
}

TEST(ActivationTest, GeluKeepsRelativePrecisionInItsLeftTail) {
  TestTensor x = TestTensor::F32({3});
  TestTensor out = TestTensor::F32({3});
  const Doubles inputs = {-3.0, -4.5, -5.5};
  for (int64_t i = 0; i < 3; ++i) x.Set(i, inputs[i]);
  ActivationForward(*CpuContext(1), {.kind = Activation::kGelu, .x = x.view(), .out = out.view()});
  for (int64_t i = 0; i < 3; ++i) {
    const double u = std::sqrt(2.0 / M_PI) * (inputs[i] + 0.044715 * std::pow(inputs[i], 3));
    EXPECT_NEAR(out.At(i) / (inputs[i] / (1.0 + std::exp(-2.0 * u))), 1.0, 1e-5);
  }
}

TEST(ActivationTest, FarFromZero) {
  for (const double x : {1e30, 1e4, 50.0, -50.0, -1e4, -1e30}) {
    for (const Activation kind : kAll) {
      TestTensor in = TestTensor::F32({1});
      TestTensor out = TestTensor::F32({1});
      TestTensor gradient = TestTensor::F32({1});
      in.Set(0, x);
      gradient.Set(0, 1.0);
      const auto context = CpuContext(1);
      ActivationForward(*context, {.kind = kind, .x = in.view(), .out = out.view()});
      ActivationBackward(
          *context, {.kind = kind, .x = in.view(), .dout = gradient.view(), .dx = gradient.view()});
      EXPECT_NEAR(out.At(0), x > 0 ? in.At(0) : 0.0, 1e-6) << x;
      EXPECT_NEAR(gradient.At(0), x > 0 ? 1.0 : 0.0, 1e-6) << x;
    }
  }
}

TEST(ActivationTest, AtZeroAndNaN) {
  const auto context = CpuContext(1);
  for (const Activation kind : kAll) {
    TestTensor x = TestTensor::F32({2});
    TestTensor out = TestTensor::F32({2});
    TestTensor gradient = TestTensor::F32({2});
    x.Set(1, NAN);
    gradient.Fill(1.0);
    ActivationForward(*context, {.kind = kind, .x = x.view(), .out = out.view()});
    ActivationBackward(
        *context, {.kind = kind, .x = x.view(), .dout = gradient.view(), .dx = gradient.view()});
    EXPECT_EQ(out.At(0), 0.0);
    EXPECT_TRUE(std::isnan(out.At(1)));
    EXPECT_EQ(gradient.At(0), kind == Activation::kGelu ? 0.5 : 0.0);
  }
}

TEST(ActivationDeathTest, NamesTheOperand) {
  const auto context = CpuContext(1);
  TestTensor x = TestTensor::F32({4});
  TestTensor half(DType::kBf16, {4});
  EXPECT_DEATH(
      ActivationForward(*context, {.kind = Activation::kGelu, .x = x.view(), .out = half.view()}),
      "activation out must be f32: bf16 \\[4\\]");
}

}  // namespace
}  // namespace entrain
