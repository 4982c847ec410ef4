#include "launcher/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace entrain {
namespace {

OptimizerSection Optimizer(Schedule schedule, int64_t warmup_steps, double min_lr = 0.0) {
  OptimizerSection optimizer;
  optimizer.lr = 1e-3;
  optimizer.schedule = schedule;
  optimizer.warmup_steps = warmup_steps;
  optimizer.min_lr = min_lr;
  return optimizer;
}

class EveryScheduleTest : public ::testing::TestWithParam<Schedule> {};

TEST_P(EveryScheduleTest, WarmsUpLinearlyFromAboveZeroToTheFullRate) {
  const OptimizerSection optimizer = Optimizer(GetParam(), 4, 1e-4);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 10, 0), 0.25e-3);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 10, 1), 0.50e-3);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 10, 2), 0.75e-3);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 10, 3), 1e-3);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 10, 4), 1e-3);
}

TEST_P(EveryScheduleTest, StartsAtTheFullRateWithoutWarmUp) {
  EXPECT_DOUBLE_EQ(LearningRate(Optimizer(GetParam(), 0), 10, 0), 1e-3);
}

TEST_P(EveryScheduleTest, MayBeWarmUpAlone) {
  const OptimizerSection optimizer = Optimizer(GetParam(), 10);
  for (int64_t step = 0; step < 10; ++step) {
    EXPECT_DOUBLE_EQ(LearningRate(optimizer, 10, step), 1e-4 * static_cast<double>(step + 1));
  }
}

TEST_P(EveryScheduleTest, NeverRisesAfterWarmUpNorLeavesItsBounds) {
  const OptimizerSection optimizer = Optimizer(GetParam(), 3, 1e-5);
  double previous = optimizer.lr;
  for (int64_t step = 3; step < 40; ++step) {
    const double lr = LearningRate(optimizer, 20, step);
    EXPECT_LE(lr, previous);
    EXPECT_GE(lr, optimizer.min_lr);
    previous = lr;
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryScheduleTest,
                         ::testing::Values(Schedule::kConstant, Schedule::kLinear,
                                           Schedule::kCosine));

TEST(LrScheduleTest, ConstantStays) {
  EXPECT_EQ(LearningRate(Optimizer(Schedule::kConstant, 0, 1e-4), 10, 9), 1e-3);
  EXPECT_EQ(LearningRate(Optimizer(Schedule::kConstant, 0, 1e-4), 10, 99), 1e-3);
}

// transformers.get_polynomial_decay_schedule_with_warmup(power 1, lr_end 0): lr · (steps − s)/(steps − warm-up).
TEST(LrScheduleTest, LinearIsHuggingFacesPolynomialOfPowerOne) {
  const OptimizerSection optimizer = Optimizer(Schedule::kLinear, 1600);
  for (const int64_t step : {1600, 1601, 12345, 31999}) {
    EXPECT_DOUBLE_EQ(LearningRate(optimizer, 32000, step),
                     1e-3 * static_cast<double>(32000 - step) / 30400.0);
  }
  EXPECT_EQ(LearningRate(optimizer, 32000, 32000), 0.0);
}

TEST(LrScheduleTest, LinearEndsAtMinLr) {
  const OptimizerSection optimizer = Optimizer(Schedule::kLinear, 0, 1e-4);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 9, 8), 2e-4);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 9, 9), 1e-4);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 9, 1000), 1e-4);
}

TEST(LrScheduleTest, CosineIsHalfWayInTheMiddle) {
  const OptimizerSection optimizer = Optimizer(Schedule::kCosine, 20, 1e-5);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 120, 70), (1e-3 + 1e-5) / 2);
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 120, 45),
                   1e-5 + 0.99e-3 * 0.5 * (1 + std::numbers::sqrt2 / 2));
  EXPECT_DOUBLE_EQ(LearningRate(optimizer, 120, 120), 1e-5);
}

}  // namespace
}  // namespace entrain
