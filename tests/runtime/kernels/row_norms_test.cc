#include "runtime/kernels/row_norms.h"

#include <gtest/gtest.h>

#include "tests/support/test_tensor.h"

namespace entrain {
namespace {

constexpr NormAxis kAxes[] = {NormAxis::kOutput, NormAxis::kInput};
constexpr int64_t kIn = 131;
constexpr int64_t kOut = 77;

int64_t Units(NormAxis axis) { return axis == NormAxis::kOutput ? kOut : kIn; }
int64_t UnitOf(NormAxis axis, int64_t element) {
  return axis == NormAxis::kOutput ? element % kOut : element / kOut;
}

Doubles Norms(const Doubles& v, NormAxis axis) {
  Doubles norms(Units(axis));
  for (int64_t i = 0; i < std::ssize(v); ++i) norms[UnitOf(axis, i)] += v[i] * v[i];
  for (double& norm : norms) norm = std::sqrt(norm);
  return norms;
}

Doubles Weight(const Doubles& v, const Doubles& g, NormAxis axis) {
  const Doubles norms = Norms(v, axis);
  Doubles weight = v;
  for (int64_t i = 0; i < std::ssize(v); ++i) {
    weight[i] *= g[UnitOf(axis, i)] / norms[UnitOf(axis, i)];
  }
  return weight;
}

// The steps of a matrix that is whole on one rank.
void UnitNorms(Context& context, const TensorView& v, NormAxis axis, const TensorView& norms) {
  TestTensor squares(DType::kF64, {norms.size()});
  UnitProducts(context, v, v, axis, squares.view());
  NormsFromSquares(context, squares.view(), norms);
}

void RunBackward(Context& context, WeightNormBackwardArgs args) {
  TestTensor products(DType::kF64, {args.norms.size()});
  UnitProducts(context, args.dweight, args.v, args.axis, products.view());
  args.products = products.view();
  WeightNormBackward(context, args);
}

TestTensor V() { return TestTensor::Normal(DType::kF32, {kIn, kOut}, 1, 0.02); }
TestTensor G(NormAxis axis) { return TestTensor::Normal(DType::kF32, {Units(axis)}, 2); }

TEST(RowNormsTest, Forward) {
  for (const NormAxis axis : kAxes) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      const auto outputs = OnAnyThreads([&](Context& context) {
        TestTensor v = V();
        TestTensor g = G(axis);
        TestTensor weight(dtype, {kIn, kOut});
        TestTensor norms = TestTensor::F32({Units(axis)});
        UnitNorms(context, v.view(), axis, norms.view());
        WeightNormForward(context, {.v = v.view(),
                                    .g = g.view(),
                                    .norms = norms.view(),
                                    .axis = axis,
                                    .weight = weight.view()});
        return std::vector{weight, norms};
      });
      EXPECT_LT(RelativeError(outputs[0].values(), Weight(V().values(), G(axis).values(), axis)),
                Tolerance(dtype));
      EXPECT_LT(RelativeError(outputs[1].values(), Norms(V().values(), axis)), 1e-7);
    }
  }
}

TEST(RowNormsTest, UnitNormsAlone) {
  for (const NormAxis axis : kAxes) {
    TestTensor v = V();
    TestTensor norms = TestTensor::F32({Units(axis)});
    UnitNorms(*CpuContext(2), v.view(), axis, norms.view());
    EXPECT_LT(RelativeError(norms.values(), Norms(v.values(), axis)), 1e-7);
  }
}

std::vector<TestTensor> Backward(Context& context, NormAxis axis) {
  TestTensor v = V();
  TestTensor g = G(axis);
  TestTensor gradient = TestTensor::Normal(DType::kF32, {kIn, kOut}, 3);
  TestTensor norms = TestTensor::F32({Units(axis)});
  TestTensor dg = TestTensor::F32({Units(axis)});
  UnitNorms(context, v.view(), axis, norms.view());
  RunBackward(context, {.dweight = gradient.view(),
                        .v = v.view(),
                        .g = g.view(),
                        .norms = norms.view(),
                        .axis = axis,
                        .dv = gradient.view(),
                        .dg = dg.view()});
  return {gradient, dg};
}

TEST(RowNormsTest, BackwardOverItsGradient) {
  for (const NormAxis axis : kAxes) {
    const auto outputs = OnAnyThreads([&](Context& context) { return Backward(context, axis); });
    const Doubles v = V().values();
    const Doubles g = G(axis).values();
    const Doubles dweight = TestTensor::Normal(DType::kF32, {kIn, kOut}, 3).values();
    // A unit's gradient depends on that unit alone: the loss over one unit is differenced at a time.
    const auto unit_loss = [&](const Doubles& at, int64_t unit) {
      double norm = 0.0;
      double dot = 0.0;
      for (int64_t i = 0; i < std::ssize(at); ++i) {
        if (UnitOf(axis, i) != unit) continue;
        norm += at[i] * at[i];
        dot += at[i] * dweight[i];
      }
      return g[unit] * dot / std::sqrt(norm);
    };
    Doubles shifted = v;
    for (const int64_t i : {0, 1, 76, 77, 5000, 10086}) {
      const double step = 1e-6;
      shifted[i] = v[i] + step;
      const double above = unit_loss(shifted, UnitOf(axis, i));
      shifted[i] = v[i] - step;
      const double numeric = (above - unit_loss(shifted, UnitOf(axis, i))) / (2 * step);
      shifted[i] = v[i];
      EXPECT_NEAR(outputs[0].At(i), numeric, 2e-5 * std::max(1.0, std::abs(numeric)));
    }
    for (int64_t unit = 0; unit < Units(axis); ++unit) {
      EXPECT_NEAR(outputs[1].At(unit), unit_loss(v, unit) / g[unit], 1e-5);
    }
  }
}

TEST(RowNormsTest, UnitOfNormZero) {
  for (const NormAxis axis : kAxes) {
    TestTensor v = V();
    for (int64_t i = 0; i < v.size(); ++i) {
      if (UnitOf(axis, i) == 5) v.Set(i, 0.0);
    }
    TestTensor g = G(axis);
    TestTensor weight = TestTensor::F32({kIn, kOut});
    TestTensor norms = TestTensor::F32({Units(axis)});
    TestTensor dg = TestTensor::F32({Units(axis)});
    const auto context = CpuContext(1);
    UnitNorms(*context, v.view(), axis, norms.view());
    WeightNormForward(*context, {.v = v.view(),
                                 .g = g.view(),
                                 .norms = norms.view(),
                                 .axis = axis,
                                 .weight = weight.view()});
    RunBackward(*context, {.dweight = v.view(),
                           .v = v.view(),
                           .g = g.view(),
                           .norms = norms.view(),
                           .axis = axis,
                           .dv = weight.view(),
                           .dg = dg.view()});
    EXPECT_EQ(norms.At(5), 0.0);
    EXPECT_EQ(dg.At(5), 0.0);
    for (const double value : weight.values()) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST(RowNormsDeathTest, NamesTheOperand) {
  TestTensor v = V();
  TestTensor norms(DType::kF64, {kIn});
  const auto context = CpuContext(1);
  EXPECT_DEATH(UnitProducts(*context, v.view(), v.view(), NormAxis::kOutput, norms.view()),
               "weight norm products, dim 0: f64 \\[131\\]");
}

}  // namespace
}  // namespace entrain
