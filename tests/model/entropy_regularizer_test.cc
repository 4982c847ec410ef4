// The regulariser's own rules: ramp, gates, both statistics, maxima.
#include "model/entropy_regularizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/model_harness.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

ModelConfig EregConfig() {
  for (const Variant& variant : Variants()) {
    if (variant.name == "ereg") return variant.config;
  }
  return {};
}

TEST(EntropyRegularizerTest, StrengthRampsLinearlyFromItsStartStep) {
  ModelConfig config = EregConfig();
  config.entropy_regularizer->strength = 0.5;
  config.entropy_regularizer->start_step = 10;
  config.entropy_regularizer->warmup_steps = 4;
  ParamSet params;
  const EntropyRegularizer regularizer(config, params);
  EXPECT_EQ(regularizer.StrengthAt(0), 0.0);
  EXPECT_EQ(regularizer.StrengthAt(9), 0.0);
  EXPECT_DOUBLE_EQ(regularizer.StrengthAt(10), 0.125);
  EXPECT_DOUBLE_EQ(regularizer.StrengthAt(12), 0.375);
  EXPECT_DOUBLE_EQ(regularizer.StrengthAt(13), 0.5);
  EXPECT_DOUBLE_EQ(regularizer.StrengthAt(100000), 0.5);
}

TEST(EntropyRegularizerTest, BeforeItsStartStepThereIsNoGradientOfThresholds) {
  ModelConfig config = EregConfig();
  config.entropy_regularizer->start_step = 5;
  config.entropy_regularizer->margin = 0.0;
  for (const int64_t step : {4, 5}) {
    ModelHarness harness(config, {.step = step});
    harness.Randomize(1);
    harness.RandomBatch(2);
    const Losses losses = harness.Gradients();
    const auto gradient = harness.Gradient("transformer.h.0.attn.entropy_threshold");
    EXPECT_GT(losses.penalty, 0.0);
    EXPECT_EQ(losses.total > losses.loss, step == 5);
    EXPECT_EQ(gradient[0] != 0.0F, step == 5);
  }
}

TEST(EntropyRegularizerTest, AGateOpensBeyondTheMarginOnly) {
  ModelConfig config = EregConfig();
  // θ that puts head 0 of each layer right on its entropy and head 1 far off.
  ModelHarness harness(config, {});
  harness.Randomize(1);
  harness.RandomBatch(2);
  harness.Evaluate();
  const double max = std::log(static_cast<double>(config.context));
  for (int64_t l = 0; l < config.layers; ++l) {
    const std::string name = "transformer.h." + std::to_string(l) + ".attn.entropy_threshold";
    std::vector<float> theta = harness.Value(name);
    theta[0] = static_cast<float>(harness.statistics().Mean(l, 0) / max);
    theta[1] = theta[0] + 0.5F;
    harness.SetValue(name, theta);
  }
  harness.Gradients();
  for (int64_t l = 0; l < config.layers; ++l) {
    EXPECT_EQ(harness.model().regularizer()->Gate(l, 0), 0.0);
    EXPECT_EQ(harness.model().regularizer()->Gate(l, 1), 1.0);
    const auto gradient =
        harness.Gradient("transformer.h." + std::to_string(l) + ".attn.entropy_threshold");
    EXPECT_EQ(gradient[0], 0.0F);
    EXPECT_NE(gradient[1], 0.0F);
  }
}

// When the previous step's entropies equal this step's, both forms of statistics give the same bits of gradient.
TEST(EntropyRegularizerTest, PreviousStepUsesThePreviousEntropies) {
  ModelConfig config = EregConfig();
  config.entropy_regularizer->margin = 0.01;
  ModelHarness micro(config, {});
  micro.Randomize(1);
  micro.RandomBatch(2);
  micro.Gradients();

  config.entropy_regularizer->statistics = Statistics::kPreviousStep;
  ModelHarness previous(config, {});
  previous.Randomize(1);
  previous.RandomBatch(2);
  const Losses first = previous.Gradients();
  EXPECT_EQ(first.penalty, 0.0) << "the first step has no previous one";
  EXPECT_EQ(RelativeL2(previous.Gradient("transformer.h.1.attn.entropy_threshold"), {0.0F, 0.0F}),
            0.0);
  previous.KeepMeans();
  const Losses second = previous.Gradients();
  EXPECT_GT(second.penalty, 0.0);
  for (const std::string& name : micro.ParameterNames()) {
    EXPECT_LE(RelativeL2(previous.Gradient(name), micro.Gradient(name)), 1e-4) << name;
  }
}

TEST(EntropyRegularizerTest, PreviousStepDoesNotDependOnTheAccumulation) {
  ModelConfig config = EregConfig();
  config.entropy_regularizer->margin = 0.01;
  config.entropy_regularizer->strength = 3.0;
  config.entropy_regularizer->statistics = Statistics::kPreviousStep;
  std::vector<std::vector<float>> gradients;
  for (const int64_t accumulation : {1, 4}) {
    ModelHarness harness(config, {.accumulation = accumulation});
    harness.Randomize(1);
    harness.RandomBatch(2);
    harness.Gradients();
    harness.KeepMeans();
    harness.Gradients();
    gradients.push_back(harness.Gradient("transformer.h.0.attn.entropy_threshold"));
  }
  EXPECT_GT(RelativeL2(gradients[0], {0.0F, 0.0F}), 0.0);
  EXPECT_LE(RelativeL2(gradients[1], gradients[0]), 1e-5);
}

TEST(EntropyStatisticsTest, MomentsBucketsAndLayerMeans) {
  EXPECT_NEAR(MaxCausalMeanEntropy(128), 3.878, 5e-4);
  EXPECT_NEAR(MaxCausalMeanEntropy(256), 4.560, 5e-4);
  EXPECT_NEAR(MaxCausalMeanEntropy(512), 5.246, 5e-4);
  EXPECT_NEAR(MaxCausalMeanEntropy(1024), 5.936, 5e-4);
  const HeadTable means = {{0.1, 3.8}, {1.5, 2.5}};
  const auto shares = BucketShares(means, 128);
  for (const double share : shares) EXPECT_DOUBLE_EQ(share, 0.25);
  EXPECT_DOUBLE_EQ(LayerMeans(means)[0], 1.95);
}

TEST(EntropyStatisticsTest, ReadAndMergeAgreeWithDirectMoments) {
  auto context = Context::CreateCpu(2);
  ASSERT_TRUE(context.ok());
  std::vector<float> rows = {0.0F, 1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F, 8.0F};  // [1, 2, 2, 2]
  const TensorView entropy(rows.data(), DType::kF32, {1, 2, 2, 2});
  Arena arena(**context, 1024);
  const HeadMoments moments = AllocateMoments(arena, 1, 2);
  EntropyMoments(**context, entropy, moments);
  const EntropyStatistics statistics = EntropyStatistics::Read(**context, moments, 4);
  EXPECT_EQ(statistics.rows(), 4);
  EXPECT_DOUBLE_EQ(statistics.Mean(0, 0), 2.5);   // 0 1 4 5
  EXPECT_DOUBLE_EQ(statistics.Mean(0, 1), 4.75);  // 2 3 6 8
  EXPECT_EQ(statistics.Min(0, 1), 2.0F);
  EXPECT_EQ(statistics.Max(0, 1), 8.0F);
  EXPECT_NEAR(statistics.StandardDeviation(0, 0), std::sqrt(4.25), 1e-12);
  EntropyStatistics twice = statistics;
  twice.Merge(statistics);
  EXPECT_EQ(twice.rows(), 8);
  EXPECT_DOUBLE_EQ(twice.Mean(0, 1), 4.75);
}

}  // namespace
}  // namespace entrain
