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

Doubles Normalized(Doubles x) {
  const double norm = std::sqrt(Dot(x, x));
  for (double& value : x) value /= norm;
  return x;
}

struct Step {
  Doubles v, next_u;
  double sigma;
};

Step Reference(const Doubles& raw, const Doubles& u) {
  Doubles v(kIn);
  Doubles next(kOut);
  for (int64_t i = 0; i < kIn * kOut; ++i) v[i / kOut] += raw[i] * u[i % kOut];
  v = Normalized(v);
  for (int64_t i = 0; i < kIn * kOut; ++i) next[i % kOut] += raw[i] * v[i / kOut];
  return {v, Normalized(next), std::sqrt(Dot(next, next))};
}

TEST(PowerIterationTest, OneStep) {
  const auto outputs = OnAnyThreads([&](Context& context) {
    TestTensor raw = Raw();
    TestTensor u = UnitVector();
    TestTensor v = TestTensor::F32({kIn});
    TestTensor sigma = TestTensor::F32({1});
    sigma.Set(
        0, PowerIteration(context,
                          {.raw = raw.view(), .u = u.view(), .v = v.view(), .next_u = u.view()}));
    return std::vector{v, u, sigma};
  });
  const Step reference = Reference(Raw().values(), UnitVector().values());
  EXPECT_LT(RelativeError(outputs[0].values(), reference.v), 1e-6);
  EXPECT_LT(RelativeError(outputs[1].values(), reference.next_u), 1e-6);
  EXPECT_NEAR(outputs[2].At(0) / reference.sigma, 1.0, 1e-6);
}

TEST(PowerIterationTest, ConvergesToTheLargestSingularValue) {
  // diag(3, 1, …): after some steps σ is 3 and u the first axis.
  TestTensor raw = TestTensor::F32({4, 4});
  for (int64_t i = 0; i < 4; ++i) raw.Set(i * 5, i == 0 ? 3.0 : 1.0);
  TestTensor u = TestTensor::F32({4});
  u.Fill(0.5);
  TestTensor v = TestTensor::F32({4});
  const auto context = CpuContext(1);
  double sigma = 0.0;
  for (int step = 0; step < 20; ++step) {
    sigma = PowerIteration(*context,
                           {.raw = raw.view(), .u = u.view(), .v = v.view(), .next_u = u.view()});
  }
  EXPECT_NEAR(sigma, 3.0, 1e-6);
  EXPECT_NEAR(u.At(0), 1.0, 1e-6);
}

TEST(PowerIterationTest, ZeroMatrix) {
  TestTensor raw = TestTensor::F32({kIn, kOut});
  TestTensor u = UnitVector();
  TestTensor v = TestTensor::Normal(DType::kF32, {kIn}, 9);
  TestTensor next_u = TestTensor::F32({kOut});
  EXPECT_EQ(
      PowerIteration(*CpuContext(2),
                     {.raw = raw.view(), .u = u.view(), .v = v.view(), .next_u = next_u.view()}),
      0.0);
  EXPECT_EQ(v.values(), Doubles(kIn, 0.0));
  EXPECT_EQ(next_u.bytes(), u.bytes());
}

TEST(SpectralScaleTest, Divides) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const auto outputs = OnAnyThreads([&](Context& context) {
      TestTensor raw = Raw();
      TestTensor weight(dtype, {kIn, kOut});
      SpectralScale(context, raw.view(), 0.4, weight.view());
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
    TestTensor raw_tensor = Raw();
    TestTensor u = fixed_u;
    TestTensor v = fixed_v;
    TestTensor gradient = TestTensor::Normal(DType::kF32, {kIn, kOut}, 3);
    SpectralBackward(context, {.dweight = gradient.view(),
                               .raw = raw_tensor.view(),
                               .u = u.view(),
                               .v = v.view(),
                               .sigma = sigma_of(raw),
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

TEST(SpectralDeathTest, SigmaMustBePositive) {
  TestTensor raw = Raw();
  const auto context = CpuContext(1);
  EXPECT_DEATH(SpectralScale(*context, raw.view(), 0.0, raw.view()), "spectral norm: sigma 0");
}

}  // namespace
}  // namespace entrain
