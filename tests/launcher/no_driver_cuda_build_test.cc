// A program with the CUDA backend on a machine without an NVIDIA driver: a login node, a laptop.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/support/nvidia_driver.h"
#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class NoDriverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (HasNvidiaDriver()) GTEST_SKIP() << "this machine has an NVIDIA driver";
  }
  ProcessResult Train(const std::string& device) const {
    TrainConfig run = SmallRun(folder_.path(), Variants()[0].config);
    run.train.steps = 2;
    return RunEntrain({"train", "--config", WriteConfig(folder_.path(), "train.toml", run), "--set",
                       "train.device=" + device});
  }

  TemporaryFolder folder_;
};

TEST_F(NoDriverTest, ProgramDoesNotNeedOneToStart) {
  EXPECT_EQ(RunEntrain({"--help"}).code, 0);
  EXPECT_THAT(RunProcess({"/usr/bin/ldd", ENTRAIN_BINARY}).output, Not(HasSubstr("libcuda.so")));
}

// ldd names what a program needs to start, and what that needs.
TEST(CudaBuildTest, NeedsNoCudnnAndNoNcclToStart) {
  const std::string needed = RunProcess({"/usr/bin/ldd", ENTRAIN_BINARY}).output;
  EXPECT_THAT(needed, HasSubstr("libcublasLt.so")) << "ldd understands the program";
  EXPECT_THAT(needed, Not(HasSubstr("libcudnn")));
  EXPECT_THAT(needed, Not(HasSubstr("libnccl")));
}

TEST_F(NoDriverTest, OneErrorSaysWhatIsMissing) {
  const ProcessResult result = Train("cuda");
  EXPECT_EQ(result.code, 78) << result.error;
  EXPECT_THAT(result.error, HasSubstr("NVIDIA driver"));
  EXPECT_THAT(result.error, HasSubstr("device"));
  EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
}

TEST_F(NoDriverTest, AutoTakesTheCpu) {
  const ProcessResult result = Train("auto");
  EXPECT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.output, HasSubstr("NVIDIA driver")) << "the banner says why";
}

}  // namespace
}  // namespace entrain
