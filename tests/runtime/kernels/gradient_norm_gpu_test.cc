#include <gtest/gtest.h>

#include "runtime/kernels/gradient_norm.h"
#include "tests/support/twin_ops.h"

namespace entrain {
namespace {

TEST(SumsOfSquaresGpuTest, OfEachGroup) {
  ENTRAIN_REQUIRE_GPU();
  GpuTwin a = NormalTwin(DType::kF32, {50001}, 1), b = NormalTwin(DType::kF32, {3}, 2);
  GpuTwin c = NormalTwin(DType::kF32, {16384}, 3);
  GpuTwin sums = NaNTwin(DType::kF64, {4});
  const TensorView none(nullptr, DType::kF32, {0});
  // One table after another, and the first again.
  for (const bool turned : {false, true, false}) {
    ExpectTwins(
        [&](Context& context) {
          const TensorView first = turned ? On(context, c) : On(context, a);
          SumsOfSquares(context,
                        {{none, first, none, On(context, b), none},
                         {},
                         {none},
                         {TailOn(context, a), On(context, c)}},
                        On(context, sums));
        },
        {{sums, 1e-13}});
  }
}

TEST(SumsOfSquaresGpuTest, OfNothing) {
  ENTRAIN_REQUIRE_GPU();
  GpuTwin sums = NaNTwin(DType::kF64, {1});
  ExpectTwins([&](Context& c) { SumsOfSquares(c, {{}}, On(c, sums)); }, {{sums, 0.0}});
}

TEST(SumsOfSquaresGpuTest, NotFiniteExactlyWhenAnElementIsNot) {
  ENTRAIN_REQUIRE_GPU();
  std::vector<float> values(40000, 3e38F);  // whose squares leave fp32, not fp64
  GpuTensor x(DType::kF32, {40000}, values), sums(DType::kF64, {1});
  for (const float value : {3e38F, INFINITY, NAN}) {
    values[39999] = value;
    SumsOfSquares(Gpu(), {{x.Set(values)}}, sums);
    EXPECT_EQ(std::isfinite(sums.GetDoubles()[0]), std::isfinite(value));
  }
}

TEST(GradientScaleGpuTest, ClipsOrLeavesOut) {
  ENTRAIN_REQUIRE_GPU();
  for (const double square : {4.0, 0.01, double{INFINITY}, double{NAN}}) {
    for (const double loss : {1.0, double{NAN}, double{-INFINITY}}) {
      for (const double clip : {0.0, 1.0}) {
        GpuTwin squares = FilledTwin(DType::kF64, {2}, square);
        GpuTwin finite = FilledTwin(DType::kF64, {2}, loss);
        GpuTwin norm = FilledTwin(DType::kF64, {1}, 7.0), scale = FilledTwin(DType::kF32, {1}, 7.0);
        for (Context* c : {&Gpu(), &Cpu()}) {
          GradientScale(*c, {.squares = On(*c, squares),
                             .must_be_finite = On(*c, finite),
                             .clip = clip,
                             .norm = On(*c, norm),
                             .scale = On(*c, scale)});
        }
        const double on_gpu = scale.gpu.GetDoubles()[0], on_cpu = scale.cpu.At(0);
        EXPECT_EQ(std::isnan(on_gpu), std::isnan(on_cpu));
        EXPECT_EQ(std::isnan(on_gpu), !std::isfinite(square) || !std::isfinite(loss));
        if (std::isnan(on_gpu)) continue;
        EXPECT_EQ(on_gpu, on_cpu);
        EXPECT_EQ(norm.gpu.GetDoubles()[0], norm.cpu.At(0));
      }
    }
  }
}

}  // namespace
}  // namespace entrain
