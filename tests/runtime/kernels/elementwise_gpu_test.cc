// Element-wise ops on the GPU.
#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "runtime/kernels/activation.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/residual.h"
#include "tests/support/twin_ops.h"

namespace entrain {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Around the 2048 elements of a block, and several blocks.
constexpr int64_t kSizes[] = {1, 2047, 2048, 2050, 20001};

TEST(CastGpuTest, EveryPairOfTypes) {
  ENTRAIN_REQUIRE_GPU();
  for (const DType in : kFloatTypes) {
    for (const DType out : kFloatTypes) {
      for (const int64_t size : kSizes) {
        GpuTwin from = NormalTwin(in, {size}, 1);
        GpuTwin to = NaNTwin(out, {size});
        ExpectTwins([&](Context& c) { Cast(c, On(c, from), On(c, to)); }, {{to, 0.0}});
      }
    }
  }
}

TEST(CastGpuTest, RoundsAsBf16DoesAtEveryEnd) {
  ENTRAIN_REQUIRE_GPU();
  const std::vector<float> values = {
      0.0F,       -0.0F,     1.00390625F, 1.01171875F,
      1.0039063F, 3.4e38F,   1e-39F,      std::numeric_limits<float>::denorm_min(),
      kInfinity,  -kInfinity};
  GpuTwin from = TwinOf(DType::kF32, {std::ssize(values)}, values);
  GpuTwin to = NaNTwin(DType::kBf16, {std::ssize(values)});
  ExpectTwins([&](Context& c) { Cast(c, On(c, from), On(c, to)); }, {{to, 0.0}});
}

TEST(CastGpuTest, NaNStaysNaN) {
  ENTRAIN_REQUIRE_GPU();
  std::vector<float> values(2048, std::bit_cast<float>(0x7f800001U));
  values[3] = std::bit_cast<float>(0x7fffffffU);
  const GpuTensor from(DType::kF32, {2048}, values);
  const GpuTensor to(DType::kBf16, {2048});
  Cast(Gpu(), from, to);
  for (const float value : to.Get()) EXPECT_TRUE(std::isnan(value));
}

TEST(CastGpuTest, RowStrides) {
  ENTRAIN_REQUIRE_GPU();
  struct Strides {
    int64_t width, in, out;
  };
  // Not in fours, in fours, more than a block's columns, one side dense.
  for (const Strides& s : {Strides{19, 32, 23}, {20, 32, 24}, {1300, 1300, 1304}, {7, 9, 7}}) {
    for (const DType in : kFloatTypes) {
      for (const DType out : kFloatTypes) {
        GpuTwin from = NormalTwin(in, {5, s.width}, 1, 1.0, s.in);
        GpuTwin to = NaNTwin(out, {5, s.width}, s.out);
        ExpectTwins([&](Context& c) { Cast(c, On(c, from), On(c, to)); }, {{to, 0.0}});
      }
    }
  }
}

TEST(CastGpuTest, NoElements) {
  ENTRAIN_REQUIRE_GPU();
  const TensorView none(nullptr, DType::kF32, {0, 3});
  Cast(Gpu(), none, none);
  const TensorView strided(nullptr, DType::kF32, {0, 3}, 4);
  Cast(Gpu(), strided, none);
}

TEST(ActivationGpuTest, ForwardAndBackward) {
  ENTRAIN_REQUIRE_GPU();
  for (const Activation kind : {Activation::kGelu, Activation::kRelu}) {
    for (const DType dtype : kFloatTypes) {
      for (const int64_t size : kSizes) {
        // The exponential may be off by 2 ulp more.
        const double tolerance = kind == Activation::kRelu ? 0.0 : ElementTolerance(dtype);
        GpuTwin x = NormalTwin(dtype, {size}, 1, 3.0);
        GpuTwin out = NaNTwin(dtype, {size});
        GpuTwin gradient = NormalTwin(dtype, {size}, 2);
        ExpectTwins(
            [&](Context& c) {
              ActivationForward(c, {.kind = kind, .x = On(c, x), .out = On(c, out)});
              ActivationBackward(
                  c, {.kind = kind, .x = On(c, x), .dout = On(c, gradient), .dx = On(c, gradient)});
            },
            {{out, tolerance}, {gradient, tolerance}});
      }
    }
  }
}

TEST(ActivationGpuTest, EndsOfTheRange) {
  ENTRAIN_REQUIRE_GPU();
  const std::vector<float> values = {0.0F,  -0.0F,  1e-30F, -1e-30F, 9.99F,     -9.99F,
                                     10.1F, -10.1F, 1e30F,  -1e30F,  kInfinity, -kInfinity};
  for (const Activation kind : {Activation::kGelu, Activation::kRelu}) {
    GpuTwin x = TwinOf(DType::kF32, {std::ssize(values)}, values);
    GpuTwin out = NaNTwin(DType::kF32, {std::ssize(values)});
    GpuTwin dx = FilledTwin(DType::kF32, {std::ssize(values)}, 1.0);
    for (Context* c : {&Cpu(), &Gpu()}) {
      ActivationForward(*c, {.kind = kind, .x = On(*c, x), .out = On(*c, out)});
      ActivationBackward(*c, {.kind = kind, .x = On(*c, x), .dout = On(*c, dx), .dx = On(*c, dx)});
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const double expected = out.cpu.values()[i];
      if (std::isinf(expected)) {
        EXPECT_EQ(out.gpu.GetDoubles()[i], expected) << values[i];
      } else {
        // Near −10 the exponent is 126, so that its own rounding is worth 2⁻¹⁷ of the value.
        EXPECT_NEAR(out.gpu.GetDoubles()[i], expected, 2e-5 * std::abs(expected)) << values[i];
      }
      EXPECT_NEAR(dx.gpu.GetDoubles()[i], dx.cpu.values()[i], 1e-6) << values[i];
    }
  }
}

TEST(ActivationGpuTest, NaNGoesThrough) {
  ENTRAIN_REQUIRE_GPU();
  for (const Activation kind : {Activation::kGelu, Activation::kRelu}) {
    for (const DType dtype : kFloatTypes) {
      const GpuTensor x(dtype, {5}, std::vector<float>(5, NAN));
      const GpuTensor out(dtype, {5});
      ActivationForward(Gpu(), {.kind = kind, .x = x, .out = out});
      for (const float value : out.Get()) EXPECT_TRUE(std::isnan(value));
    }
  }
}

// Whose elements fill a chunk of the sums and a part of one, in fours and not.
constexpr int64_t kShapes[][2] = {{9, 1031}, {16, 1024}, {1, 5}};

GpuTwin Scalar(float value) { return TwinOf(DType::kF32, {1}, {value}); }

TEST(ResidualGpuTest, Forward) {
  ENTRAIN_REQUIRE_GPU();
  for (const auto& [rows, width] : kShapes) {
    for (const bool scaled : {false, true}) {
      for (const DType dtype : kFloatTypes) {
        GpuTwin y = NormalTwin(DType::kF32, {rows, width}, 1);
        GpuTwin f = NormalTwin(dtype, {rows, width}, 2);
        GpuTwin alpha = Scalar(1.5F);
        GpuTwin beta = Scalar(-0.75F);
        ExpectTwins(
            [&](Context& c) {
              ResidualForward(c, {.y = On(c, y),
                                  .f = On(c, f),
                                  .alpha = scaled ? On(c, alpha) : TensorView(),
                                  .beta = scaled ? On(c, beta) : TensorView(),
                                  .out = On(c, y)});
            },
            {{y, ElementTolerance(DType::kF32)}});
      }
    }
  }
}

struct ScaledCase {
  int64_t rows, width;
  DType f, df;
  bool accumulate, in_place;
};

void ExpectScaledBackward(const ScaledCase& s) {
  GpuTwin dout = NormalTwin(DType::kF32, {s.rows, s.width}, 3);
  GpuTwin y = NormalTwin(DType::kF32, {s.rows, s.width}, 1);
  GpuTwin f = NormalTwin(s.f, {s.rows, s.width}, 2);
  GpuTwin alpha = Scalar(1.5F);
  GpuTwin beta = Scalar(-0.75F);
  GpuTwin dy = NaNTwin(DType::kF32, {s.rows, s.width});
  GpuTwin df = NaNTwin(s.df, {s.rows, s.width});
  GpuTwin dalpha = Scalar(s.accumulate ? 10.0F : NAN);
  GpuTwin dbeta = Scalar(s.accumulate ? 20.0F : NAN);
  GpuTwin& dy_out = s.in_place ? dout : dy;
  ExpectTwins(
      [&](Context& c) {
        ResidualBackward(c, {.dout = On(c, dout),
                             .y = On(c, y),
                             .f = On(c, f),
                             .alpha = On(c, alpha),
                             .beta = On(c, beta),
                             .dy = On(c, dy_out),
                             .df = On(c, df),
                             .dalpha = On(c, dalpha),
                             .dbeta = On(c, dbeta),
                             .accumulate = s.accumulate});
      },
      // One rounding each; sums in fp64 of either order round to the same fp32 or its neighbour.
      {{dy_out, 0.0}, {df, 0.0}, {dalpha, 1e-7}, {dbeta, 1e-7}});
}

TEST(ResidualGpuTest, ScaledBackward) {
  ENTRAIN_REQUIRE_GPU();
  for (const auto& [rows, width] : kShapes) {
    for (const DType f : kFloatTypes) {
      for (const DType df : kFloatTypes) {
        for (const bool accumulate : {false, true}) {
          ExpectScaledBackward({rows, width, f, df, accumulate, f == df});
        }
      }
    }
  }
}

TEST(ResidualGpuTest, PlainBackwardNeedsNeitherInput) {
  ENTRAIN_REQUIRE_GPU();
  for (const bool in_place : {false, true}) {
    GpuTwin dout = NormalTwin(DType::kF32, {3, 901}, 3);
    GpuTwin dy = NaNTwin(DType::kF32, {3, 901});
    GpuTwin df = NaNTwin(DType::kBf16, {3, 901});
    GpuTwin& dy_out = in_place ? dout : dy;
    ExpectTwins(
        [&](Context& c) {
          ResidualBackward(c, {.dout = On(c, dout), .dy = On(c, dy_out), .df = On(c, df)});
        },
        {{dy_out, 0.0}, {df, 0.0}});
  }
}

TEST(ResidualGpuTest, SumsOfNoRowsAreZero) {
  ENTRAIN_REQUIRE_GPU();
  const TensorView none(nullptr, DType::kF32, {0, 8});
  const GpuTensor alpha(DType::kF32, {1}, std::vector<float>{2.0F});
  const GpuTensor dalpha(DType::kF32, {1}, std::vector<float>{NAN});
  const GpuTensor dbeta(DType::kF32, {1}, std::vector<float>{NAN});
  ResidualBackward(Gpu(), {.dout = none,
                           .y = none,
                           .f = none,
                           .alpha = alpha,
                           .beta = alpha,
                           .dy = none,
                           .df = none,
                           .dalpha = dalpha,
                           .dbeta = dbeta});
  EXPECT_EQ(dalpha.Get()[0], 0.0F);
  EXPECT_EQ(dbeta.Get()[0], 0.0F);
}

}  // namespace
}  // namespace entrain
