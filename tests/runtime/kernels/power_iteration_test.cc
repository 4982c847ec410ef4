#include "runtime/kernels/power_iteration.h"

#include <gtest/gtest.h>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr int64_t kIn = 131;
constexpr int64_t kOut = 77;

TestTensor Raw() { return TestTensor::Normal(DType::kF32, {kIn, kOut}, 1, 0.02); }

TestTensor UnitVector() {
  TestTensor u = TestTensor::Normal(DType::kF32, {kOut}, 2);
  const double norm = std::sqrt(Dot(u.values(), u.values()));
  for (int64_t i = 0; i < kOut; ++i) u.Set(i, u.At(i) / norm);
  return u;
}

TEST(MatrixVectorTest, BothWays) {
  const Doubles raw = Raw().values();
  TestTensor x = UnitVector();
  TestTensor y = TestTensor::Normal(DType::kF32, {kIn}, 3);
  Doubles forward(kIn);
  Doubles back(kOut);
  for (int64_t i = 0; i < kIn * kOut; ++i) {
    forward[i / kOut] += raw[i] * x.At(i % kOut);
    back[i % kOut] += raw[i] * y.At(i / kOut);
  }
  const auto outputs = OnAnyThreads([&](Context& context) {
    TestTensor raw_tensor = Raw();
    TestTensor in(DType::kF64, {kIn});
    TestTensor out(DType::kF64, {kOut});
    out.Fill(9.0);
    MatrixVector(context, raw_tensor.view(), x.view(), in.view());
    TransposedMatrixVector(context, raw_tensor.view(), y.view(), out.view());
    return std::vector{in, out};
  });
  EXPECT_LT(RelativeError(outputs[0].values(), forward), 1e-12);
  EXPECT_LT(RelativeError(outputs[1].values(), back), 1e-12);
}

TEST(InnerProductTest, OverAllElements) {
  TestTensor a = Raw();
  TestTensor b = TestTensor::Normal(DType::kF32, {kIn, kOut}, 8);
  TestTensor product(DType::kF64, {1});
  InnerProduct(*CpuContext(2), a.view(), b.view(), product.view());
  EXPECT_NEAR(product.At(0), Dot(a.values(), b.values()), 1e-12);
}

TEST(NormalizeTest, UnitVectorAndLength) {
  TestTensor x(DType::kF64, {kIn}), square(DType::kF64, {1}), norm(DType::kF64, {1});
  TestTensor out = TestTensor::F32({kIn}), old = TestTensor::Normal(DType::kF32, {kIn}, 6);
  const auto context = CpuContext(2);
  const auto run = [&](bool keep) {
    SquaredNorm(*context, x.view(), square.view());
    Normalize(*context, {.x = x.view(),
                         .square = square.view(),
                         .if_zero = keep ? old.view() : TensorView(),
                         .out = out.view(),
                         .norm = norm.view()});
  };
  for (int64_t i = 0; i < kIn; ++i) x.Set(i, 0.5 * static_cast<double>(i));
  run(true);
  EXPECT_DOUBLE_EQ(norm.At(0), std::sqrt(Dot(x.values(), x.values())));
  EXPECT_NEAR(out.At(7), 3.5 / norm.At(0), 1e-8);
  x.Fill(0.0);
  run(true);
  EXPECT_EQ(norm.At(0), kMinSigma);
  EXPECT_EQ(out.values(), old.values());
  run(false);
  EXPECT_EQ(out.values(), Doubles(kIn, 0.0));
}

TestTensor Number(double value) {
  TestTensor number(DType::kF64, {1});
  number.Fill(value);
  return number;
}

TEST(SpectralScaleTest, Divides) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const auto outputs = OnAnyThreads([&](Context& context) {
      TestTensor raw = Raw();
      TestTensor weight(dtype, {kIn, kOut});
      TestTensor sigma = Number(0.4);
      SpectralScale(context, raw.view(), sigma.view(), weight.view());
      return std::vector{weight};
    });
    Doubles reference = Raw().values();
    for (double& value : reference) value /= 0.4;
    EXPECT_LT(RelativeError(outputs[0].values(), reference), Tolerance(dtype));
  }
}

TEST(SpectralBackwardTest, DifferencesWithUAndVHeld) {
  const Doubles raw = Raw().values();
  const TestTensor fixed_u = TestTensor::Normal(DType::kF32, {kOut}, 4, 0.1);
  const TestTensor fixed_v = TestTensor::Normal(DType::kF32, {kIn}, 5, 0.1);
  const Doubles dweight = TestTensor::Normal(DType::kF32, {kIn, kOut}, 3).values();
  const auto sigma_of = [&](const Doubles& at) {
    double sigma = 10.0;  // keeps it away from 0 for random u and v; has no gradient
    for (int64_t i = 0; i < std::ssize(at); ++i) {
      sigma += fixed_v.At(i / kOut) * at[i] * fixed_u.At(i % kOut);
    }
    return sigma;
  };
  const auto outputs = OnAnyThreads([&](Context& context) {
    TestTensor u = fixed_u;
    TestTensor v = fixed_v;
    TestTensor gradient = TestTensor::Normal(DType::kF32, {kIn, kOut}, 3);
    TestTensor sigma = Number(sigma_of(raw)), product = Number(Dot(dweight, raw));
    SpectralBackward(context, {.dweight = gradient.view(),
                               .u = u.view(),
                               .v = v.view(),
                               .sigma = sigma.view(),
                               .product = product.view(),
                               .draw = gradient.view()});
    return std::vector{gradient};
  });
  Doubles shifted = raw;
  for (const int64_t i : {0, 76, 77, 9000, 10086}) {
    const auto loss = [&](double value) {
      shifted[i] = value;
      return Dot(shifted, dweight) / sigma_of(shifted);
    };
    const double numeric = (loss(raw[i] + 1e-5) - loss(raw[i] - 1e-5)) / 2e-5;
    shifted[i] = raw[i];
    EXPECT_NEAR(outputs[0].At(i), numeric, 1e-6);
  }
}

}  // namespace
}  // namespace entrain
