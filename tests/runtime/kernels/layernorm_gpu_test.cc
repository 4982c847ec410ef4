#include <gtest/gtest.h>

#include <vector>

#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/layernorm.h"
#include "tests/support/twin_ops.h"

namespace entrain {
namespace {

// A row's statistics are sums in another order than the CPU's.
double OutputTolerance(DType dtype) { return dtype == DType::kBf16 ? 5e-4 : 1e-6; }

struct ForwardOperands {
  GpuTwin x, gain, bias, out, mean, rstd;

  ForwardOperands(int64_t rows, int64_t width, DType dtype)
      : x(NormalTwin(DType::kF32, {rows, width}, 1, 2.0)),
        gain(NormalTwin(DType::kF32, {width}, 2)),
        bias(NormalTwin(DType::kF32, {width}, 3)),
        out(NaNTwin(dtype, {rows, width})),
        mean(NaNTwin(DType::kF32, {rows})),
        rstd(NaNTwin(DType::kF32, {rows})) {}

  LayerNormForwardArgs ArgsOn(Context& c) {
    return {.x = On(c, x),
            .gain = On(c, gain),
            .bias = On(c, bias),
            .out = On(c, out),
            .mean = On(c, mean),
            .rstd = On(c, rstd)};
  }
};

TEST(LayerNormGpuTest, Forward) {
  ENTRAIN_REQUIRE_GPU();
  // Rows in registers, which they fill or not; then rows that are read from memory: too wide, or not in fours.
  for (const int64_t width : {4, 128, 132, 384, 768, 1024, 1280, 1600, 2048, 2052, 1, 131, 1031}) {
    for (const int64_t rows : {1, 6}) {
      for (const DType dtype : kFloatTypes) {
        ForwardOperands o(rows, width, dtype);
        ExpectTwins([&](Context& c) { LayerNormForward(c, o.ArgsOn(c)); },
                    {{o.out, OutputTolerance(dtype)}, {o.mean, 2e-6}, {o.rstd, 1e-6}});
      }
    }
  }
}

TEST(LayerNormGpuTest, ForwardOfMoreRowsThanWarpsOnADevice) {
  ENTRAIN_REQUIRE_GPU();
  // Of this width at most four blocks of four warps fit on a multiprocessor, and twice that is launched.
  ForwardOperands o(int64_t{2} * 4 * 4 * Gpu().cuda().multiprocessors + 9, 1540, DType::kBf16);
  ExpectTwins([&](Context& c) { LayerNormForward(c, o.ArgsOn(c)); },
              {{o.out, OutputTolerance(DType::kBf16)}, {o.mean, 2e-6}, {o.rstd, 1e-6}});
}

TEST(LayerNormGpuTest, VarianceSurvivesALargeMean) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t width : {768, 131}) {
    ForwardOperands o(1, width, DType::kF32);
    std::vector<float> values;
    for (const double x : o.x.cpu.values()) values.push_back(static_cast<float>(1000.0 + x));
    o.x = TwinOf(DType::kF32, {1, width}, values);
    // An ulp of the mean is 6e-5.
    ExpectTwins([&](Context& c) { LayerNormForward(c, o.ArgsOn(c)); },
                {{o.out, 2e-4}, {o.mean, 2e-7}, {o.rstd, 1e-5}});
  }
}

struct BackwardCase {
  int64_t rows, width;
  DType dtype;
  bool accumulate;
  bool add_to_dx = true;
  bool copy = false;  // of dx, in dtype
};

void ExpectBackward(const BackwardCase& s) {
  GpuTwin dout = NormalTwin(s.dtype, {s.rows, s.width}, 4);
  ForwardOperands forward(s.rows, s.width, s.dtype);
  for (Context* c : {&Cpu(), &Gpu()}) LayerNormForward(*c, forward.ArgsOn(*c));
  GpuTwin dx = s.add_to_dx ? NormalTwin(DType::kF32, {s.rows, s.width}, 5)
                           : NaNTwin(DType::kF32, {s.rows, s.width});
  GpuTwin dx_copy = NaNTwin(s.dtype, {s.rows, s.width});
  const auto sums = [&](uint64_t stream) {
    return s.accumulate ? NormalTwin(DType::kF32, {s.width}, stream)
                        : NaNTwin(DType::kF32, {s.width});
  };
  GpuTwin dgain = sums(6), dbias = sums(7);
  ExpectTwins(
      [&](Context& c) {
        LayerNormBackward(c, {.dout = On(c, dout),
                              .x = On(c, forward.x),
                              .gain = On(c, forward.gain),
                              .mean = On(c, forward.mean),
                              .rstd = On(c, forward.rstd),
                              .dx = On(c, dx),
                              .dx_copy = s.copy ? On(c, dx_copy) : TensorView(),
                              .dgain = On(c, dgain),
                              .dbias = On(c, dbias),
                              .add_to_dx = s.add_to_dx,
                              .accumulate = s.accumulate});
      },
      {{dx, 1e-6}, {dgain, 2e-6}, {dbias, 2e-6}});
  if (!s.copy) return;
  // Of what is in dx, to the bit.
  GpuTwin cast = NaNTwin(s.dtype, {s.rows, s.width});
  Cast(Gpu(), dx.gpu, cast.gpu);
  EXPECT_EQ(dx_copy.gpu.Bytes(), cast.gpu.Bytes());
}

TEST(LayerNormGpuTest, Backward) {
  ENTRAIN_REQUIRE_GPU();
  // A column of threads' registers, part of a warp, more than a block has threads for, and not in fours.
  for (const int64_t width : {60, 128, 768, 2052, 4100, 131}) {
    // Part of a chunk of rows, and several.
    for (const int64_t rows : {1, 21}) {
      for (const DType dtype : kFloatTypes) {
        for (const bool accumulate : {false, true}) {
          ExpectBackward({rows, width, dtype, accumulate});
        }
      }
    }
  }
}

TEST(LayerNormGpuTest, BackwardThatOverwritesOrCopies) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t width : {60, 768, 4100, 131}) {
    for (const DType dtype : kFloatTypes) {
      for (const bool add_to_dx : {false, true}) {
        for (const bool copy : {false, true}) {
          ExpectBackward({13, width, dtype, false, add_to_dx, copy});
        }
      }
    }
  }
}

TEST(LayerNormGpuTest, BackwardOfManyRows) {
  ENTRAIN_REQUIRE_GPU();
  // Longer chunks: 9 rows.
  ExpectBackward({8200, 8, DType::kBf16, false});
}

TEST(LayerNormGpuTest, BackwardWithGradientsSideBySide) {
  ENTRAIN_REQUIRE_GPU();
  for (const bool accumulate : {false, true}) {
    constexpr int64_t kRows = 21, kWidth = 132;
    ForwardOperands forward(kRows, kWidth, DType::kF32);
    for (Context* c : {&Cpu(), &Gpu()}) LayerNormForward(*c, forward.ArgsOn(*c));
    GpuTwin dout = NormalTwin(DType::kF32, {kRows, kWidth}, 4);
    GpuTwin dx = NaNTwin(DType::kF32, {kRows, kWidth});
    GpuTwin sums = NormalTwin(DType::kF32, {2, kWidth}, 6);
    ExpectTwins(
        [&](Context& c) {
          const TensorView both = On(c, sums);
          LayerNormBackward(c, {.dout = On(c, dout),
                                .x = On(c, forward.x),
                                .gain = On(c, forward.gain),
                                .mean = On(c, forward.mean),
                                .rstd = On(c, forward.rstd),
                                .dx = On(c, dx),
                                .dgain = both.Rows(0, 1).Reshape({kWidth}),
                                .dbias = both.Rows(1, 1).Reshape({kWidth}),
                                .add_to_dx = false,
                                .accumulate = accumulate});
        },
        {{dx, 1e-6}, {sums, 2e-6}});
  }
}

TEST(LayerNormGpuTest, OfNoRows) {
  ENTRAIN_REQUIRE_GPU();
  const TensorView none(nullptr, DType::kF32, {0, 8});
  const TensorView no_rows(nullptr, DType::kF32, {0});
  const GpuTensor gain(DType::kF32, {8});
  const GpuTensor out(DType::kBf16, {1, 8});
  GpuTensor dgain(DType::kF32, {8}), dbias(DType::kF32, {8});
  LayerNormForward(Gpu(), {.x = none,
                           .gain = gain,
                           .bias = gain,
                           .out = out.view().Rows(0, 0),
                           .mean = no_rows,
                           .rstd = no_rows});
  for (const bool accumulate : {true, false}) {
    dgain.Fill(3.0F);
    dbias.Fill(3.0F);
    LayerNormBackward(Gpu(), {.dout = none,
                              .x = none,
                              .gain = gain,
                              .mean = no_rows,
                              .rstd = no_rows,
                              .dx = none,
                              .dgain = dgain,
                              .dbias = dbias,
                              .accumulate = accumulate});
    EXPECT_EQ(dgain.Get(), std::vector<float>(8, accumulate ? 3.0F : 0.0F));
    EXPECT_EQ(dbias.Get(), std::vector<float>(8, accumulate ? 3.0F : 0.0F));
  }
}

}  // namespace
}  // namespace entrain
