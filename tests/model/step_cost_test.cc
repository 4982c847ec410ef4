#include "model/step_cost.h"

#include <gtest/gtest.h>

namespace entrain {
namespace {

// GPT-2 124M: 6N = 747 million with the padded vocabulary, attention's causal half 57 million.
TEST(StepCost, UsualFlopsAreSixTimesParametersAndHalfOfAttention) {
  ModelConfig config;
  config.layers = 12;
  config.heads = 12;
  config.width = 768;
  config.context = 1024;
  config.vocab = 50257;
  constexpr int64_t kParameters = 124439808;
  constexpr int64_t kPadding = (50304 - 50257) * 768;
  EXPECT_EQ(UsualFlopsPerToken(config, kParameters),
            6.0 * (kParameters + kPadding + 12 * 768 * 1024));
  EXPECT_NEAR(UsualFlopsPerToken(config, kParameters), 747e6 + 57e6, 1e6);
}

}  // namespace
}  // namespace entrain
