// The model against independent float64 results: loss, penalty, entropies, every gradient.
#include <gtest/gtest.h>

#include "tests/support/golden_checks.h"

namespace entrain {
namespace {

class GoldenTest : public ::testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  GoldenCase golden_ = LoadGolden(std::get<0>(GetParam()));
  DType compute_ = std::get<1>(GetParam());
};

TEST_P(GoldenTest, LossPenaltyAndEntropies) { ExpectGoldenLosses(golden_, compute_); }
TEST_P(GoldenTest, EveryGradient) { ExpectGoldenGradients(golden_, compute_); }

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
