#include "runtime/kernels/simd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace entrain {
namespace {

using simd::Float;
using simd::kLanes;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Distance of `found` from `exact` in units of the last place of `exact`.
double Ulps(float found, double exact) {
  const auto rounded = static_cast<float>(std::abs(exact));
  return std::abs(found - exact) / (std::nextafter(rounded, kInfinity) - double{rounded});
}

template <typename Function, typename Exact>
double WorstUlps(float begin, float end, float step, Function&& function, Exact&& exact) {
  double worst = 0.0;
  for (float x = begin; x < end; x += step) {
    worst = std::max(worst, Ulps(function(simd::Broadcast(x))[0], exact(double{x})));
  }
  return worst;
}

TEST(SimdTest, ExponentialsAreWithinOneAndAHalfUlp) {
  EXPECT_LT(WorstUlps(
                -125.9F, 127.4F, 0.00093F, [](Float x) { return simd::Exp2(x); },
                [](double x) { return std::exp2(x); }),
            1.5);
  EXPECT_LT(WorstUlps(
                -87.2F, 88.2F, 0.00071F, [](Float x) { return simd::Exp(x); },
                [](double x) { return std::exp(x); }),
            1.5);
}

TEST(SimdTest, ExponentialsAtTheEnds) {
  for (const float x : {-kInfinity, -1e30F, -1e5F, -151.0F}) {
    EXPECT_EQ(simd::Exp2(simd::Broadcast(x))[0], 0.0F) << x;
    EXPECT_EQ(simd::Exp(simd::Broadcast(x))[0], 0.0F) << x;
  }
  for (const float x : {kInfinity, 1e30F, 128.0F}) {
    EXPECT_EQ(simd::Exp2(simd::Broadcast(x))[0], kInfinity) << x;
    EXPECT_EQ(simd::Exp(simd::Broadcast(x))[0], kInfinity) << x;
  }
  EXPECT_TRUE(std::isnan(simd::Exp2(simd::Broadcast(NAN))[0]));
  EXPECT_TRUE(std::isnan(simd::Exp(simd::Broadcast(NAN))[0]));
  EXPECT_EQ(simd::Exp2(simd::Zero())[0], 1.0F);
  EXPECT_EQ(simd::Exp(simd::Zero())[0], 1.0F);
}

TEST(SimdTest, ForEachVectorVisitsEveryElementOnce) {
  for (int64_t n = 0; n <= 3 * kLanes + 1; ++n) {
    std::vector<float> in(n + 1, 1.0F);
    std::vector<float> out(n + 1, 7.0F);
    for (int64_t i = 0; i < n; ++i) in[i] = static_cast<float>(i);
    Float sum = simd::Zero();
    simd::ForEachVector(n, [&](int64_t i, auto lanes) {
      const Float x = lanes.Load(in.data() + i);
      sum += x + lanes.Only(simd::Broadcast(1.0F));
      lanes.Store(out.data() + i, 2.0F * x);
    });
    EXPECT_EQ(simd::HorizontalSum(sum), static_cast<float>(n * (n - 1) / 2 + n));
    for (int64_t i = 0; i < n; ++i) EXPECT_EQ(out[i], static_cast<float>(2 * i));
    EXPECT_EQ(out[n], 7.0F);
  }
}

TEST(SimdTest, Horizontal) {
  std::vector<float> x(kLanes);
  for (int i = 0; i < kLanes; ++i) x[i] = static_cast<float>((i * 5 + 3) % kLanes);
  const Float value = simd::Load(x.data());
  EXPECT_EQ(simd::HorizontalSum(value), kLanes * (kLanes - 1) / 2);
  EXPECT_EQ(simd::HorizontalMax(value), kLanes - 1);
  EXPECT_EQ(simd::HorizontalSum(simd::ToDouble(value) * simd::ToDouble(value)),
            (kLanes - 1) * kLanes * (2 * kLanes - 1) / 6);
}

TEST(SimdTest, MaxAndMinGiveTheSecondOperandForNaN) {
  const Float nan = simd::Broadcast(NAN);
  const Float one = simd::Broadcast(1.0F);
  EXPECT_EQ(simd::Max(nan, one)[0], 1.0F);
  EXPECT_EQ(simd::Min(nan, one)[0], 1.0F);
  EXPECT_TRUE(std::isnan(simd::Max(one, nan)[0]));
  EXPECT_TRUE(std::isnan(simd::Min(one, nan)[0]));
}

TEST(SimdTest, SqrtAndRound) {
  EXPECT_EQ(simd::Sqrt(simd::Broadcast(2.25F))[0], 1.5F);
  EXPECT_EQ(simd::Round(simd::Broadcast(2.5F))[0], 2.0F);
  EXPECT_EQ(simd::Round(simd::Broadcast(-3.4F))[0], -3.0F);
}

}  // namespace
}  // namespace entrain
