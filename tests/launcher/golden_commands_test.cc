// The golden cases through the real commands: eval, and ten steps of train.
#include <gtest/gtest.h>

#include "tests/support/golden_checks.h"

namespace entrain {
namespace {

class GoldenCommandsTest : public ::testing::TestWithParam<std::string> {
 protected:
  GoldenCase golden_ = LoadGolden(GetParam());
};

TEST_P(GoldenCommandsTest, Eval) { ExpectGoldenEval(golden_, golden_.batch); }
TEST_P(GoldenCommandsTest, TenStepsOfAdamW) { ExpectGoldenSteps(golden_, Precision::kFp32); }
TEST_P(GoldenCommandsTest, TenStepsInBf16) { ExpectGoldenSteps(golden_, Precision::kBf16); }

INSTANTIATE_TEST_SUITE_P(All, GoldenCommandsTest, ::testing::ValuesIn(GoldenNames()),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace entrain
