#include "runtime/kernels/gradient_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/kernels/reduce.h"
#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

TEST(SumsOfSquaresTest, OfEachGroupInOrder) {
  TestTensor a = TestTensor::Normal(DType::kF32, {50000}, 1);
  TestTensor b = TestTensor::Normal(DType::kF32, {3}, 2);
  TestTensor none = TestTensor::F32({0});
  TestTensor sums(DType::kF64, {3});
  sums.Fill(NAN);
  const auto context = CpuContext(2);
  SumsOfSquares(*context, {{a.view(), none.view(), b.view()}, {}, {b.view()}}, sums.view());
  const double of_b = SumOfSquares(*context, b.view());
  EXPECT_EQ(sums.At(0), SumOfSquares(*context, a.view()) + of_b);
  EXPECT_EQ(sums.At(1), 0.0);
  EXPECT_EQ(sums.At(2), of_b);
}

struct Scaled {
  double norm;
  double scale;
};

Scaled Scale(const Doubles& squares, double loss, double clip) {
  TestTensor sums(DType::kF64, {static_cast<int64_t>(squares.size())});
  for (size_t i = 0; i < squares.size(); ++i) sums.Set(static_cast<int64_t>(i), squares[i]);
  TestTensor finite(DType::kF64, {1}), norm(DType::kF64, {1}), scale = TestTensor::F32({1});
  finite.Fill(loss);
  GradientScale(*CpuContext(1), {.squares = sums.view(),
                                 .must_be_finite = finite.view(),
                                 .clip = clip,
                                 .norm = norm.view(),
                                 .scale = scale.view()});
  return {norm.At(0), scale.At(0)};
}

TEST(GradientScaleTest, ClipsLargeGradientsOnly) {
  EXPECT_EQ(Scale({9.0, 16.0}, 1.0, 0.0).norm, 5.0);
  EXPECT_EQ(Scale({9.0, 16.0}, 1.0, 0.0).scale, 1.0);
  EXPECT_EQ(Scale({9.0, 16.0}, 1.0, 10.0).scale, 1.0);
  EXPECT_EQ(Scale({9.0, 16.0}, 1.0, 1.0).scale, static_cast<float>(1.0 / (5.0 + 1e-6)));
}

TEST(GradientScaleTest, LeavesOutWhatIsNotFinite) {
  for (const double clip : {0.0, 1.0}) {
    EXPECT_TRUE(std::isnan(Scale({INFINITY}, 1.0, clip).scale));
    EXPECT_TRUE(std::isnan(Scale({NAN}, 1.0, clip).scale));
    EXPECT_TRUE(std::isnan(Scale({1.0}, NAN, clip).scale));
    EXPECT_TRUE(std::isnan(Scale({1.0}, -INFINITY, clip).scale));
  }
}

}  // namespace
}  // namespace entrain
