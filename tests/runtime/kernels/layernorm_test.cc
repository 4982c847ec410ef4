#include "runtime/kernels/layernorm.h"

#include <gtest/gtest.h>

#include "runtime/kernels/cast.h"
#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

Doubles Reference(const Doubles& x, const Doubles& gain, const Doubles& bias) {
  const size_t width = gain.size();
  Doubles out(x.size());
  for (size_t row = 0; row < x.size(); row += width) {
    double mean = 0.0;
    double variance = 0.0;
    for (size_t i = 0; i < width; ++i) mean += x[row + i] / static_cast<double>(width);
    for (size_t i = 0; i < width; ++i) {
      variance += (x[row + i] - mean) * (x[row + i] - mean) / static_cast<double>(width);
    }
    const double rstd = 1.0 / std::sqrt(variance + 1e-5);
    for (size_t i = 0; i < width; ++i) {
      out[row + i] = gain[i] * (x[row + i] - mean) * rstd + bias[i];
    }
  }
  return out;
}

struct Operands {
  TestTensor x, gain, bias, out, mean, rstd;

  Operands(int64_t rows, int64_t width, DType dtype)
      : x(TestTensor::Normal(DType::kF32, {rows, width}, 1)),
        gain(TestTensor::Normal(DType::kF32, {width}, 2)),
        bias(TestTensor::Normal(DType::kF32, {width}, 3)),
        out(dtype, {rows, width}),
        mean(TestTensor::F32({rows})),
        rstd(TestTensor::F32({rows})) {}

  LayerNormForwardArgs Forward() {
    return {.x = x.view(),
            .gain = gain.view(),
            .bias = bias.view(),
            .out = out.view(),
            .mean = mean.view(),
            .rstd = rstd.view()};
  }
};

TEST(LayerNormTest, Forward) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const int64_t width : {1, 5, 16, 70, 128, 769}) {
      const auto outputs = OnAnyThreads([&](Context& context) {
        Operands operands(7, width, dtype);
        LayerNormForward(context, operands.Forward());
        return std::vector{operands.out, operands.mean, operands.rstd};
      });
      const Operands fresh(7, width, dtype);
      EXPECT_LT(RelativeError(outputs[0].values(), Reference(fresh.x.values(), fresh.gain.values(),
                                                             fresh.bias.values())),
                Tolerance(dtype))
          << width;
    }
  }
}

TEST(LayerNormTest, VarianceSurvivesALargeMean) {
  Operands operands(3, 64, DType::kF32);
  for (int64_t i = 0; i < operands.x.size(); ++i) operands.x.Set(i, 1000.0 + operands.x.At(i));
  LayerNormForward(*CpuContext(1), operands.Forward());
  EXPECT_LT(
      RelativeError(operands.out.values(),
                    Reference(operands.x.values(), operands.gain.values(), operands.bias.values())),
      1e-4);
}

struct Gradients {
  TestTensor dx, dgain, dbias;
};

Gradients Backward(Context& context, Operands& operands, TestTensor& dout, bool accumulate) {
  const int64_t width = operands.gain.size();
  LayerNormForward(context, operands.Forward());
  Gradients gradients = {TestTensor::Normal(DType::kF32, {operands.x.size() / width, width}, 11),
                         TestTensor::Normal(DType::kF32, {width}, 12),
                         TestTensor::Normal(DType::kF32, {width}, 13)};
  LayerNormBackward(context, {.dout = dout.view(),
                              .x = operands.x.view(),
                              .gain = operands.gain.view(),
                              .mean = operands.mean.view(),
                              .rstd = operands.rstd.view(),
                              .dx = gradients.dx.view(),
                              .dgain = gradients.dgain.view(),
                              .dbias = gradients.dbias.view(),
                              .accumulate = accumulate});
  return gradients;
}

Doubles Sum(Doubles a, const Doubles& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

void ExpectGradients(int64_t rows, int64_t width, DType dtype, bool accumulate) {
  TestTensor dout = TestTensor::Normal(dtype, {rows, width}, 4);
  const auto outputs = OnAnyThreads([&](Context& context) {
    Operands operands(rows, width, dtype);
    Gradients g = Backward(context, operands, dout, accumulate);
    return std::vector{g.dx, g.dgain, g.dbias};
  });
  Operands fresh(rows, width, dtype);
  const Doubles x = fresh.x.values();
  const Doubles gain = fresh.gain.values();
  const Doubles bias = fresh.bias.values();
  const Doubles weights = dout.values();
  Doubles dx = NumericGradient(
      [&](const Doubles& at) { return Dot(Reference(at, gain, bias), weights); }, x);
  Doubles dgain = NumericGradient(
      [&](const Doubles& at) { return Dot(Reference(x, at, bias), weights); }, gain);
  Doubles dbias = NumericGradient(
      [&](const Doubles& at) { return Dot(Reference(x, gain, at), weights); }, bias);
  dx = Sum(dx, TestTensor::Normal(DType::kF32, {rows, width}, 11).values());
  if (accumulate) {
    dgain = Sum(dgain, TestTensor::Normal(DType::kF32, {width}, 12).values());
    dbias = Sum(dbias, TestTensor::Normal(DType::kF32, {width}, 13).values());
  }
  EXPECT_LT(RelativeError(outputs[0].values(), dx), 1e-6);
  EXPECT_LT(RelativeError(outputs[1].values(), dgain), 1e-6);
  EXPECT_LT(RelativeError(outputs[2].values(), dbias), 1e-6);
}

TEST(LayerNormTest, Backward) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const bool accumulate : {false, true}) {
      ExpectGradients(5, 19, dtype, accumulate);
      ExpectGradients(1, 32, dtype, accumulate);
      ExpectGradients(130, 3, dtype, accumulate);  // three chunks of rows
    }
  }
}

// The same dx as added to zeros, and copies of it, to the bit.
TEST(LayerNormTest, BackwardOverwritesAndCopies) {
  constexpr int64_t kRows = 67, kWidth = 19;
  const auto context = CpuContext(2);
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    TestTensor dout = TestTensor::Normal(dtype, {kRows, kWidth}, 4);
    Operands operands(kRows, kWidth, dtype);
    LayerNormForward(*context, operands.Forward());
    std::vector<TestTensor> results;
    for (const bool add : {true, false}) {
      TestTensor dx = TestTensor::F32({kRows, kWidth}), copy(dtype, {kRows, kWidth});
      TestTensor dgain = TestTensor::F32({kWidth}), dbias = TestTensor::F32({kWidth});
      dx.Fill(add ? 0.0 : NAN);
      copy.Fill(NAN);
      LayerNormBackward(*context, {.dout = dout.view(),
                                   .x = operands.x.view(),
                                   .gain = operands.gain.view(),
                                   .mean = operands.mean.view(),
                                   .rstd = operands.rstd.view(),
                                   .dx = dx.view(),
                                   .dx_copy = copy.view(),
                                   .dgain = dgain.view(),
                                   .dbias = dbias.view(),
                                   .add_to_dx = add});
      TestTensor cast(dtype, {kRows, kWidth});
      Cast(*context, dx.view(), cast.view());
      EXPECT_EQ(copy.bytes(), cast.bytes());
      results.push_back(dx);
    }
    EXPECT_EQ(results[0].bytes(), results[1].bytes());
  }
}

TEST(LayerNormDeathTest, NamesTheOperand) {
  Operands operands(2, 8, DType::kF32);
  LayerNormForwardArgs args = operands.Forward();
  args.rstd = operands.gain.view();
  const auto context = CpuContext(1);
  EXPECT_DEATH(LayerNormForward(*context, args), "layernorm rstd, dim 0: f32 \\[8\\]");
  args = operands.Forward();
  args.out = args.x;
  EXPECT_DEATH(LayerNormForward(*context, args), "may not alias x");
}

}  // namespace
}  // namespace entrain
