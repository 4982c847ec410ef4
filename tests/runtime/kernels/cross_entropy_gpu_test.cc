#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "tests/support/cross_entropy_gpu_case.h"

namespace entrain {
namespace {

TEST(CrossEntropyGpuTest, AgreesWithTheCpu) {
  ENTRAIN_REQUIRE_GPU();
  for (const CrossEntropyCase& c : kCrossEntropyCases) {
    for (const CrossEntropyTypes& types : kCrossEntropyTypes) {
      const DType dtype = types.gradient;
      SCOPED_TRACE(testing::Message() << c.vocab << " of " << c.width << " columns");
      CrossEntropyTwins operands(c, types.logits);
      OnBoth([&](Context& context, auto view) {
        operands.Statistics(context, view);
        const TensorView dlogits = GradientView(view(operands.logits), dtype);
        operands.Loss(context, view, dlogits, 0.25F);
      });
      EXPECT_EQ(operands.max.gpu.GetDoubles(), operands.max.cpu.values());
      EXPECT_EQ(operands.target.gpu.GetDoubles(), operands.target.cpu.values());
      // Both add exponentials in fp32 over about a hundred columns.
      EXPECT_LT(operands.sum.Error(), 1e-6);
      EXPECT_LT(operands.loss.Error(), 1e-6);
      ExpectCpusGradient(operands, c, dtype);
    }
  }
}

TEST(CrossEntropyGpuTest, SameBitsEveryTime) {
  ENTRAIN_REQUIRE_GPU();
  for (const CrossEntropyCase& c : kCrossEntropyCases) {
    for (const CrossEntropyTypes& types : kCrossEntropyTypes) {
      const DType dtype = types.gradient;
      std::vector<std::vector<uint8_t>> first;
      for (int run = 0; run < 2; ++run) {
        CrossEntropyTwins operands(c, types.logits);
        OnGpu([&](Context& context, auto view) {
          operands.Statistics(context, view);
          const TensorView dlogits = GradientView(view(operands.logits), dtype);
          operands.Loss(context, view, dlogits, 1.0F);
        });
        const std::vector outputs = {operands.sum.gpu.Bytes(), operands.loss.gpu.Bytes(),
                                     operands.logits.gpu.Bytes()};
        if (run == 0) first = outputs;
        EXPECT_EQ(outputs, first);
      }
    }
  }
}

TEST(CrossEntropyGpuTest, LossOnlyLeavesLogits) {
  ENTRAIN_REQUIRE_GPU();
  CrossEntropyTwins operands(kCrossEntropyCases[2]);
  const std::vector<uint8_t> before = operands.logits.gpu.Bytes();
  OnBoth([&](Context& context, auto view) {
    operands.Statistics(context, view);
    operands.Loss(context, view, TensorView(), 1.0F);
  });
  EXPECT_EQ(operands.logits.gpu.Bytes(), before);
  EXPECT_LT(operands.loss.Error(), 1e-6);
}

// A rank whose columns hold none of the targets, and one without columns.
TEST(CrossEntropyGpuTest, TargetsOfOtherRanks) {
  ENTRAIN_REQUIRE_GPU();
  for (const int64_t count : {int64_t{257}, int64_t{0}}) {
    CrossEntropyTwins operands(kCrossEntropyCases[2]);
    operands.vocab = {5000, count};
    OnBoth([&](Context& context, auto view) { operands.Statistics(context, view); });
    EXPECT_EQ(operands.target.gpu.GetDoubles(), Doubles(3, 0.0));
    EXPECT_EQ(operands.max.gpu.GetDoubles(), operands.max.cpu.values());
    EXPECT_LT(operands.sum.Error(), 1e-6);
    // Other ranks' maximum and sum.
    operands.max.Fill(40.0);
    operands.sum.Fill(3.0);
    OnBoth([&](Context& context, auto view) {
      operands.Loss(context, view, view(operands.logits), 2.0F);
    });
    EXPECT_LT(operands.logits.Error(), Tolerance(DType::kF32));
    EXPECT_EQ(operands.loss.gpu.GetDoubles(), operands.loss.cpu.values());
  }
}

TEST(CrossEntropyGpuTest, NonFiniteLogitsGiveNonFiniteLoss) {
  ENTRAIN_REQUIRE_GPU();
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    CrossEntropyTwins operands(kCrossEntropyCases[4]);
    std::vector<float> logits = operands.logits.gpu.Get();
    logits[4321] = value;
    operands.logits.gpu.Set(logits);
    OnGpu([&](Context& context, auto view) {
      operands.Statistics(context, view);
      operands.Loss(context, view, GradientView(view(operands.logits), DType::kBf16), 1.0F);
    });
    ExpectNonFiniteInFirstRow(operands);
  }
}

TEST(CrossEntropyGpuTest, PaddingHasNoPartWhateverItHolds) {
  ENTRAIN_REQUIRE_GPU();
  for (const CrossEntropyCase& c : {kCrossEntropyCases[2], kCrossEntropyCases[3]}) {
    CrossEntropyTwins operands(c);
    std::vector<float> logits = operands.logits.gpu.Get();
    for (size_t i = 0; i < logits.size(); ++i) {
      if (static_cast<int64_t>(i) % c.width >= c.vocab) logits[i] = NAN;
    }
    operands.logits.gpu.Set(logits);
    OnBoth([&](Context& context, auto view) {
      operands.Statistics(context, view);
      operands.Loss(context, view, view(operands.logits), 1.0F);
    });
    EXPECT_LT(operands.loss.Error(), 1e-6);
    EXPECT_LT(operands.logits.Error(), Tolerance(DType::kF32));
  }
}

TEST(CrossEntropyGpuTest, Rescale) {
  ENTRAIN_REQUIRE_GPU();
  constexpr int64_t kRows = 777;
  GpuTwin sum(DType::kF64, {kRows}), from(DType::kF32, {kRows}), to(DType::kF32, {kRows});
  sum.Normal(1, 1.0, 10.0);
  from.Normal(2, 3.0);
  to.Normal(3, 3.0, 5.0);
  OnBoth([&](Context& context, auto view) {
    SoftmaxRescale(context, {.sum = view(sum), .from = view(from), .to = view(to)});
  });
  EXPECT_LT(sum.Error(), 1e-14);
}

TEST(CrossEntropyGpuTest, NoRows) {
  ENTRAIN_REQUIRE_GPU();
  GpuTensor none(DType::kF32, {0, 8}), targets(DType::kI32, {0}), f32(DType::kF32, {0}),
      f64(DType::kF64, {0});
  SoftmaxStatistics(
      Gpu(),
      {.logits = none, .targets = targets, .vocab = {0, 8}, .max = f32, .sum = f64, .target = f64});
  CrossEntropy(Gpu(), {.logits = none,
                       .targets = targets,
                       .vocab = {0, 8},
                       .max = f32,
                       .sum = f64,
                       .target = f64,
                       .loss = f32,
                       .dlogits = none});
  SoftmaxRescale(Gpu(), {.sum = f64, .from = f32, .to = f32});
  Synchronize(Gpu());
}

}  // namespace
}  // namespace entrain
