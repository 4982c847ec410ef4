#include "runtime/base/check.h"

#include <gtest/gtest.h>

namespace entrain {
namespace {

class CheckDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(CheckDeathTest, NamesPlaceConditionAndMessage) {
  const int rows = -3;
  EXPECT_DEATH(CHECK(rows > 0) << "rows " << rows,
               "check_test\\.cc:[0-9]+: check failed: rows > 0 rows -3");
}

TEST_F(CheckDeathTest, ComparisonsShowBothSides) {
  EXPECT_DEATH(CHECK_EQ(2 + 2, 5) << "sum", "\\(2 \\+ 2\\) == \\(5\\) 4 vs 5 sum");
  EXPECT_DEATH(CHECK_LE(3, 2), "3 vs 2");
  EXPECT_DEATH(CHECK_LT(2, 2), "2 vs 2");
  EXPECT_DEATH(CHECK_GE(1, 2), "1 vs 2");
  EXPECT_DEATH(CHECK_GT(2, 2), "2 vs 2");
}

TEST(Check, HoldsSilentlyAndEvaluatesOnce) {
  int evaluated = 0;
  CHECK(++evaluated == 1) << "never";
  EXPECT_EQ(evaluated, 1);
  CHECK_EQ(1, 1);
  CHECK_LE(1, 1);
  CHECK_LT(1, 2);
  CHECK_GE(2, 2);
  CHECK_GT(2, 1);
}

TEST(Check, MessageIsNotBuiltWhenItHolds) {
  bool built = false;
  auto message = [&] {
    built = true;
    return "message";
  };
  CHECK(true) << message();
  EXPECT_FALSE(built);
}

// The macro is one expression: an else after it belongs to the if before it.
TEST(Check, IsAnExpression) {
  bool other = false;
  if (other) {
    CHECK(false);
  } else {
    other = true;
  }
  EXPECT_TRUE(other);
}

}  // namespace
}  // namespace entrain
