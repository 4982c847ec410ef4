#include <gtest/gtest.h>

#include <cmath>
#include <iterator>
#include <limits>
#include <vector>

#include "tests/support/cross_entropy_gpu_case.h"

namespace entrain {
namespace {

// Beside the others, rows for two blocks a multiprocessor and for one, which hold them or do not.
std::vector<CrossEntropyCase> WholeCases() {
  std::vector<CrossEntropyCase> cases(std::begin(kCrossEntropyCases), std::end(kCrossEntropyCases));
  cases.push_back({.rows = 2, .vocab = 50257, .width = 50304, .spread = 5.0});
  cases.push_back({.rows = 1, .vocab = 61000, .width = 61001, .spread = 5.0});
  cases.push_back({.rows = 1, .vocab = 70001, .width = 70016, .spread = 5.0, .stride = 70020});
  cases.push_back({.rows = 2, .vocab = 90001, .width = 90016, .spread = 5.0, .stride = 90020});
  return cases;
}

TEST(WholeCrossEntropyGpuTest, AgreesWithTheCpuAndItself) {
  ENTRAIN_REQUIRE_GPU();
  for (const CrossEntropyCase& c : WholeCases()) {
    for (const CrossEntropyTypes& types : kCrossEntropyTypes) {
      const DType dtype = types.gradient;
      SCOPED_TRACE(testing::Message() << c.vocab << " of " << c.width << " columns");
      CrossEntropyTwins operands(c, types.logits), again(c, types.logits);
      OnBoth([&](Context& context, auto view) {
        operands.Whole(context, view, GradientView(view(operands.logits), dtype), 0.25F);
      });
      OnGpu([&](Context& context, auto view) {
        again.Whole(context, view, GradientView(view(again.logits), dtype), 0.25F);
      });
      EXPECT_EQ(operands.loss.gpu.Bytes(), again.loss.gpu.Bytes());
      EXPECT_EQ(operands.logits.gpu.Bytes(), again.logits.gpu.Bytes());
      EXPECT_LT(operands.loss.Error(), 1e-6);
      ExpectCpusGradient(operands, c, dtype);
    }
  }
}

TEST(WholeCrossEntropyGpuTest, LossOnlyLeavesLogits) {
  ENTRAIN_REQUIRE_GPU();
  CrossEntropyTwins operands(kCrossEntropyCases[2]);
  const std::vector<uint8_t> before = operands.logits.gpu.Bytes();
  OnBoth([&](Context& context, auto view) { operands.Whole(context, view, TensorView(), 1.0F); });
  EXPECT_EQ(operands.logits.gpu.Bytes(), before);
  EXPECT_LT(operands.loss.Error(), 1e-6);
}

TEST(WholeCrossEntropyGpuTest, NonFiniteStaysInItsRowAndPaddingHasNoPart) {
  ENTRAIN_REQUIRE_GPU();
  const CrossEntropyCase& c = kCrossEntropyCases[4];
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    CrossEntropyTwins operands(c);
    std::vector<float> logits = operands.logits.gpu.Get();
    for (size_t i = 0; i < logits.size(); ++i) {
      if (static_cast<int64_t>(i) % c.width >= c.vocab) logits[i] = NAN;
    }
    logits[4321] = value;
    operands.logits.gpu.Set(logits);
    OnGpu([&](Context& context, auto view) {
      operands.Whole(context, view, GradientView(view(operands.logits), DType::kBf16), 1.0F);
    });
    ExpectNonFiniteInFirstRow(operands);
  }
}

}  // namespace
}  // namespace entrain
