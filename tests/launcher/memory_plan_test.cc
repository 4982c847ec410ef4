#include "launcher/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace entrain {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr MemoryPlan kPlan{.parameters = 3'000'000'000,
                           .optimizer = 2'000'000'000,
                           .activations = 1'000'000'000,
                           .attention = 500'000'000,
                           .snapshot = 4'000'000'000};
constexpr int64_t kOnGpu = 6'500'000'000, kInAll = 10'500'000'000;

std::string Refusal(const DeviceRoom& room) {
  TrainConfig config;
  config.train.micro_batch = 3;
  return std::string(CheckFits(kPlan, room, config, 1).message());
}

TEST(MemoryPlanTest, WhatFitsToTheByteIsTaken) {
  EXPECT_EQ(Refusal({.kind = DeviceKind::kCuda, .free = kOnGpu}), "");
  EXPECT_EQ(Refusal({.kind = DeviceKind::kCpu, .free = kInAll}), "");
  EXPECT_EQ(Refusal({.kind = DeviceKind::kCuda, .free = 3 * kOnGpu, .ranks = 3}), "");
  EXPECT_EQ(Refusal({.kind = DeviceKind::kCuda}), "");  // how much is free is not known
}

TEST(MemoryPlanTest, WhatDoesNotIsRefusedWithItsParts) {
  const std::string gpu = Refusal({.kind = DeviceKind::kCuda, .free = kOnGpu - 1});
  EXPECT_THAT(gpu, HasSubstr("needs about 6.50 GB of GPU memory and 6.50 GB are free (parameters "
                             "3.00, optimizer 2.00, activations 1.00, workspace of cuDNN's "
                             "attention 0.50, without train.attention = \"entrain\"); lower "
                             "train.micro_batch = 3, set train.recompute = true, or take a smaller "
                             "model"));
  const std::string cpu = Refusal({.kind = DeviceKind::kCpu, .free = kInAll - 1});
  EXPECT_THAT(cpu, HasSubstr("copy for background saves 4.00"));
  EXPECT_THAT(cpu, HasSubstr("set checkpoint.background = false, or take"));
  EXPECT_THAT(cpu, Not(HasSubstr("GPU")));
}

// Each would fit alone.
TEST(MemoryPlanTest, RanksOfADeviceMustFitTogether) {
  EXPECT_THAT(Refusal({.kind = DeviceKind::kCuda, .free = 2 * kOnGpu - 1, .ranks = 2}),
              HasSubstr("needs about 6.50 GB of GPU memory a rank and 13.00 GB are free for the 2 "
                        "ranks there ("));
}

}  // namespace
}  // namespace entrain
