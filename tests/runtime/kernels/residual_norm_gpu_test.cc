#include <gtest/gtest.h>

#include <vector>

#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/layernorm.h"
#include "runtime/kernels/residual_norm.h"
#include "tests/support/twin_ops.h"

namespace entrain {
namespace {

struct Case {
  int64_t rows, width;
  DType dtype;
  bool scaled, norm, in_place;
};

std::ostream& operator<<(std::ostream& stream, const Case& c) {
  return stream << c.rows << "x" << c.width << " " << kDTypeNames.Name(c.dtype)
                << (c.scaled ? " scaled" : "") << (c.norm ? " norm" : "")
                << (c.in_place ? " in place" : "");
}

struct Operands {
  GpuTwin y, f, alpha, beta, out, gain, bias, normed, mean, rstd;

  explicit Operands(const Case& c)
      : y(NormalTwin(DType::kF32, {c.rows, c.width}, 1)),
        f(NormalTwin(DType::kF32, {c.rows, c.width}, 2)),
        alpha(FilledTwin(DType::kF32, {1}, 1.5)),
        beta(FilledTwin(DType::kF32, {1}, -0.75)),
        out(NaNTwin(DType::kF32, {c.rows, c.width})),
        gain(NormalTwin(DType::kF32, {c.width}, 3)),
        bias(NormalTwin(DType::kF32, {c.width}, 4)),
        normed(NaNTwin(c.dtype, {c.rows, c.width})),
        mean(NaNTwin(DType::kF32, {c.rows})),
        rstd(NaNTwin(DType::kF32, {c.rows})) {}

  GpuTwin& Sum(const Case& c) { return c.in_place ? y : out; }

  ResidualNormForwardArgs ArgsOn(Context& context, const Case& c) {
    const auto given = [&](bool there, GpuTwin& twin) {
      return there ? On(context, twin) : TensorView();
    };
    return {.sum = {.y = On(context, y),
                    .f = On(context, f),
                    .alpha = given(c.scaled, alpha),
                    .beta = given(c.scaled, beta),
                    .out = On(context, Sum(c))},
            .gain = given(c.norm, gain),
            .bias = given(c.norm, bias),
            .normed = On(context, normed),
            .mean = given(c.norm, mean),
            .rstd = given(c.norm, rstd)};
  }
};

void RunApart(Context& context, const ResidualNormForwardArgs& args) {
  ResidualForward(context, args.sum);
  if (!args.gain) return Cast(context, args.sum.out, args.normed);
  LayerNormForward(context, {.x = args.sum.out,
                             .gain = args.gain,
                             .bias = args.bias,
                             .out = args.normed,
                             .mean = args.mean,
                             .rstd = args.rstd});
}

void ExpectLikeCpuAndTheTwoOps(const Case& c) {
  SCOPED_TRACE(testing::Message() << c);
  Operands o(c), apart(c);
  std::vector<TwinOutput> outputs = {{o.Sum(c), ElementTolerance(DType::kF32)},
                                     {o.normed, c.dtype == DType::kBf16 ? 5e-4 : 2e-6}};
  if (c.norm) {
    // Sums in another order than the CPU's; the mean of normal numbers is small.
    outputs.push_back({o.mean, 1e-5});
    outputs.push_back({o.rstd, 1e-6});
  }
  ExpectTwins([&](Context& context) { ResidualNormForward(context, o.ArgsOn(context, c)); },
              outputs);
  RunApart(Gpu(), apart.ArgsOn(Gpu(), c));
  // ExpectTwins ran it again on what it had restored.
  EXPECT_EQ(o.Sum(c).gpu.Bytes(), apart.Sum(c).gpu.Bytes());
  EXPECT_EQ(o.normed.gpu.Bytes(), apart.normed.gpu.Bytes());
  if (!c.norm) return;
  EXPECT_EQ(o.mean.gpu.Bytes(), apart.mean.gpu.Bytes());
  EXPECT_EQ(o.rstd.gpu.Bytes(), apart.rstd.gpu.Bytes());
}

TEST(ResidualNormGpuTest, Norms) {
  ENTRAIN_REQUIRE_GPU();
  // Rows that a warp's registers hold, filled or not; then too wide, or not in fours.
  for (const int64_t width : {4, 132, 384, 768, 1024, 1280, 1600, 2048, 2052, 131}) {
    for (const DType dtype : kFloatTypes) {
      for (const bool scaled : {false, true}) {
        ExpectLikeCpuAndTheTwoOps({5, width, dtype, scaled, true, width % 3 != 1});
      }
    }
  }
}

TEST(ResidualNormGpuTest, NormsMoreRowsThanWarpsOnADevice) {
  ENTRAIN_REQUIRE_GPU();
  // Of this width two blocks of four warps fit on a multiprocessor, and twice that is launched; lanes behind a row's end have no part.
  const int64_t warps = int64_t{2} * 2 * 4 * Gpu().cuda().multiprocessors;
  for (const bool in_place : {false, true}) {
    ExpectLikeCpuAndTheTwoOps({warps + 9, 1540, DType::kBf16, true, true, in_place});
  }
}

TEST(ResidualNormGpuTest, Copies) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t width : {4, 1024, 1031}) {
    for (const DType dtype : kFloatTypes) {
      for (const bool scaled : {false, true}) {
        for (const bool in_place : {false, true}) {
          ExpectLikeCpuAndTheTwoOps({9, width, dtype, scaled, false, in_place});
        }
      }
    }
  }
}

TEST(ResidualNormGpuTest, OfNoRows) {
  ENTRAIN_REQUIRE_GPU();
  const TensorView none(nullptr, DType::kF32, {0, 8});
  const TensorView no_rows(nullptr, DType::kF32, {0});
  const GpuTensor gain(DType::kF32, {8});
  const ResidualForwardArgs sum = {.y = none, .f = none, .out = none};
  ResidualNormForward(Gpu(), {.sum = sum, .normed = none});
  ResidualNormForward(
      Gpu(),
      {.sum = sum, .gain = gain, .bias = gain, .normed = none, .mean = no_rows, .rstd = no_rows});
}

}  // namespace
}  // namespace entrain
