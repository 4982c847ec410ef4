#include "launcher/device_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/test_device.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

TEST(DeviceLimitsTest, HeadsMayBeTooWideForAGpu) {
  ModelConfig model;
  model.width = 514;
  model.heads = 2;
  EXPECT_TRUE(CheckModelOnDevice(model, DeviceKind::kCpu).ok());
  const absl::Status status = CheckModelOnDevice(model, DeviceKind::kCuda);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model.heads = 2 makes heads of width 257 of model.width = 514, and a GPU "
                        "takes heads of width up to 256: raise model.heads to 3"));
  model.width = 512;
  EXPECT_TRUE(CheckModelOnDevice(model, DeviceKind::kCuda).ok());
}

TEST(DeviceLimitsTest, MoreThanIsFreeIsRefused) {
  const std::unique_ptr<Context> context = TestContext(1);
  ASSERT_GT(FreeMemory(*context), 0);
  EXPECT_TRUE(CheckFreeMemory(*context, 1, "this model", "").ok());
  const absl::Status status =
      CheckFreeMemory(*context, int64_t{1} << 50, "this model", "take a smaller one");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("this model needs about 1125899.91 GB"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(" are free; take a smaller one"));
}

}  // namespace
}  // namespace entrain
