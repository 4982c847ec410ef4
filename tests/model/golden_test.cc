// The model against independent float64 results: loss, penalty, entropies, every gradient.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/support/golden_case.h"
#include "tests/support/model_harness.h"

namespace entrain {
namespace {

struct Tolerance {
  double loss;
  double entropy;
  double gradient;  // relative L2 of a tensor
};

class GoldenTest : public ::testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  GoldenTest()
      : golden_(LoadGolden(std::get<0>(GetParam()))),
        harness_(golden_.config, {.compute = std::get<1>(GetParam()), .threads = 2}) {
    harness_.LoadFolder(golden_.folder);
    harness_.SetBatch(golden_.inputs, golden_.targets);
  }

  Tolerance tolerance() const {
    if (std::get<1>(GetParam()) == DType::kF32) return {1e-6, 1e-6, 2e-5};
    return {1e-2, 2e-2, 3e-2};
  }

  GoldenCase golden_;
  ModelHarness harness_;
};

TEST_P(GoldenTest, LossPenaltyAndEntropies) {
  const Losses losses = harness_.Evaluate();
  EXPECT_NEAR(losses.loss, golden_.loss, tolerance().loss * golden_.loss);
  EXPECT_NEAR(losses.penalty, golden_.penalty, tolerance().entropy);
  EXPECT_NEAR(losses.total, golden_.total, tolerance().loss * golden_.total);
  for (int64_t l = 0; l < golden_.config.layers; ++l) {
    for (int64_t h = 0; h < golden_.config.heads; ++h) {
      EXPECT_NEAR(harness_.statistics().Mean(l, h), golden_.head_entropy[l][h], tolerance().entropy)
          << "layer " << l << " head " << h;
    }
  }
}

TEST_P(GoldenTest, EveryGradient) {
  harness_.Gradients();
  int compared = 0;
  for (const TensorEntry& entry : golden_.gradients->tensors()) {
    std::vector<float> expected(entry.data.size() / sizeof(float));
    std::memcpy(expected.data(), entry.data.data(), entry.data.size());
    if (!harness_.model().params().Find(entry.name).valid()) {
      // A switched-off bias: no parameter, no gradient.
      EXPECT_EQ(RelativeL2(expected, std::vector<float>(expected.size())), 0.0) << entry.name;
      continue;
    }
    const std::string kind(kDTypeNames.Name(std::get<1>(GetParam())));
    EXPECT_LE(RelativeL2(harness_.Gradient(entry.name), expected),
              golden_.Tolerance(kind, entry.name, tolerance().gradient))
        << entry.name;
    ++compared;
  }
  EXPECT_EQ(compared, static_cast<int>(harness_.ParameterNames().size()));
}

std::string TestName(const ::testing::TestParamInfo<std::tuple<std::string, DType>>& info) {
  std::string name =
      std::get<0>(info.param) + "_" + std::string(kDTypeNames.Name(std::get<1>(info.param)));
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest,
                         ::testing::Combine(::testing::ValuesIn(GoldenNames()),
                                            ::testing::Values(DType::kF32, DType::kBf16)),
                         TestName);

}  // namespace
}  // namespace entrain
