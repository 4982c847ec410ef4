// What must hold for every row of the variants table, bit for bit or to rounding.
#include "tests/support/variants.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "model/decoder.h"
#include "tests/support/model_harness.h"

namespace entrain {
namespace {

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Gradients of one training step from fixed values and tokens.
std::unique_ptr<ModelHarness> StepWith(const ModelConfig& config, const HarnessOptions& options,
                                       Losses* losses) {
  auto harness = std::make_unique<ModelHarness>(config, options);
  harness->Randomize(3);
  harness->RandomBatch(4);
  *losses = harness->Gradients();
  return harness;
}

void ExpectSameBits(const ModelConfig& config, const HarnessOptions& a, const HarnessOptions& b) {
  Losses losses_a;
  Losses losses_b;
  const auto first = StepWith(config, a, &losses_a);
  const auto second = StepWith(config, b, &losses_b);
  EXPECT_EQ(losses_a.total, losses_b.total);
  EXPECT_TRUE(SameBits(first->Entropies(), second->Entropies()));
  for (const std::string& name : first->ParameterNames()) {
    EXPECT_TRUE(SameBits(first->Gradient(name), second->Gradient(name))) << name;
  }
}

class VariantsTest : public ::testing::TestWithParam<Variant> {};

TEST_P(VariantsTest, RecomputationIsEqualToTheBit) {
  for (const DType compute : {DType::kF32, DType::kBf16}) {
    ExpectSameBits(GetParam().config, {.compute = compute},
                   {.compute = compute, .recompute = true});
  }
}

TEST_P(VariantsTest, RepeatingAStepGivesTheSameBits) {
  for (const DType compute : {DType::kF32, DType::kBf16}) {
    ExpectSameBits(GetParam().config, {.compute = compute, .threads = 2, .step = 3},
                   {.compute = compute, .threads = 2, .step = 3});
  }
}

TEST_P(VariantsTest, ThreadsChangeNothingBeyondRounding) {
  Losses one;
  Losses three;
  const auto a = StepWith(GetParam().config, {.threads = 1}, &one);
  const auto b = StepWith(GetParam().config, {.threads = 3}, &three);
  EXPECT_NEAR(one.total, three.total, 1e-6 * one.total);
  for (const std::string& name : a->ParameterNames()) {
    const std::vector<float> zero(a->Gradient(name).size());
    const double size = RelativeL2(a->Gradient(name), zero);
    EXPECT_LE(RelativeL2(b->Gradient(name), a->Gradient(name)) * std::min(1.0, size), 1e-4) << name;
  }
}

// Without a statistic over the micro-batch, a batch may be cut up without changing anything but rounding.
TEST_P(VariantsTest, AccumulationEqualsOneBatch) {
  const ModelConfig& config = GetParam().config;
  const bool head_statistics = config.entropy_regularizer &&
                               config.entropy_regularizer->granularity == Granularity::kHead &&
                               config.entropy_regularizer->statistics == Statistics::kMicroStep;
  if (head_statistics) return;
  Losses whole;
  Losses cut;
  const auto a = StepWith(config, {.step = 5}, &whole);
  const auto b = StepWith(config, {.accumulation = 4, .step = 5}, &cut);
  EXPECT_NEAR(whole.total, cut.total, 1e-6 * whole.total);
  for (const std::string& name : a->ParameterNames()) {
    const std::vector<float> zero(a->Gradient(name).size());
    const double size = RelativeL2(a->Gradient(name), zero);
    EXPECT_LE(RelativeL2(b->Gradient(name), a->Gradient(name)) * std::min(1.0, size), 1e-4) << name;
  }
}

TEST_P(VariantsTest, SwitchedOffPartsOfABiasGetNoGradient) {
  const ModelConfig& config = GetParam().config;
  if (config.qk_bias == config.vo_bias) return;
  Losses losses;
  const auto harness = StepWith(config, {.accumulation = 2}, &losses);
  const std::vector<float> bias = harness->Gradient("transformer.h.0.attn.c_attn.bias");
  const int64_t qk = 2 * config.width;
  double off = 0.0;
  double on = 0.0;
  for (int64_t i = 0; i < 3 * config.width; ++i) {
    const bool trained = i < qk ? config.qk_bias : config.vo_bias;
    (trained ? on : off) += std::abs(bias[static_cast<size_t>(i)]);
  }
  EXPECT_EQ(off, 0.0);
  EXPECT_GT(on, 0.0);
}

// Token by token with the cache, the logits are those of the whole sequence at once.
TEST_P(VariantsTest, CachedDecodingEqualsPrefill) {
  ModelHarness harness(GetParam().config, {.threads = 2});
  harness.Randomize(5);
  const std::vector<int32_t> tokens = {1, 5, 2, 40, 7, 7, 3, 0, 12, 30, 8, 11, 9};
  Decoder stepped(harness.context(), harness.model());
  Decoder whole(harness.context(), harness.model());
  stepped.Prefill(std::span(tokens).first(2));
  for (size_t length = 3; length <= tokens.size(); ++length) {
    stepped.Append(tokens[length - 1]);
    whole.Prefill(std::span(tokens).first(length));
    const std::vector<float> a(stepped.logits().begin(), stepped.logits().end());
    const std::vector<float> b(whole.logits().begin(), whole.logits().end());
    EXPECT_LE(RelativeL2(a, b), 2e-6) << "after " << length << " tokens";
  }
}

INSTANTIATE_TEST_SUITE_P(All, VariantsTest, ::testing::ValuesIn(Variants()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace entrain
