// entrain train --dry-run: what it says, and that it refuses what the run would.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class TrainDryRunTest : public ::testing::Test {
 protected:
  TrainConfig Small(const std::string& variant) const {
    for (const Variant& one : Variants()) {
      if (one.name == variant) return SmallRun(folder_.path(), one.config);
    }
    ADD_FAILURE() << "no variant " << variant;
    return {};
  }
  ProcessResult Train(const TrainConfig& config, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"train", "--config",
                                          WriteConfig(folder_.path(), "train.toml", config)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunEntrain(arguments);
  }
  std::string run() const { return folder_.path() + "/run"; }

  TemporaryFolder folder_;
};

TEST_F(TrainDryRunTest, ADryRunSaysTheMemoryAndLeavesNoTrace) {
  const ProcessResult result = Train(Small("ereg"), {"--dry-run"});
  EXPECT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.output, HasSubstr("memory"));
  EXPECT_THAT(result.output, HasSubstr("fresh, seed 1337"));
  EXPECT_FALSE(std::filesystem::exists(run()));
}

// The plan for a GPU that is not here is a GPU's: its logits come in larger chunks, its ops have scratch.
TEST_F(TrainDryRunTest, ADryRunForAGpuPlansAGpu) {
  TrainConfig config = Small("ereg");
  config.train.cuda_graph = OnOff::kOn;
  const ProcessResult cpu = Train(config, {"--dry-run"});
  EXPECT_EQ(cpu.code, 78);
  EXPECT_THAT(cpu.error, HasSubstr("train.cuda_graph = on"));
  config.train.device = DeviceChoice::kCuda;
  const ProcessResult gpu = Train(config, {"--dry-run"});
  EXPECT_EQ(gpu.code, 0) << gpu.error;
  EXPECT_THAT(gpu.output, HasSubstr(", ops "));
  EXPECT_THAT(gpu.output, HasSubstr("one CUDA graph"));
  EXPECT_THAT(gpu.output, Not(HasSubstr("(free: ")));  // of that GPU nothing is known
  config.model.width = 257;
  config.model.heads = 1;
  const ProcessResult wide = Train(config, {"--dry-run"});
  EXPECT_EQ(wide.code, 78);
  EXPECT_THAT(wide.error, HasSubstr("width up to 256"));
}

TEST_F(TrainDryRunTest, ADryRunOnTheCpuRefusesTf32) {
  setenv("CUDA_VISIBLE_DEVICES", "", 1);  // so that auto is the CPU everywhere
  TrainConfig config = Small("ereg");
  config.train.tf32 = true;
  const ProcessResult result = Train(config, {"--dry-run"});
  unsetenv("CUDA_VISIBLE_DEVICES");
  EXPECT_EQ(result.code, 78);
  EXPECT_THAT(result.error, HasSubstr("train.tf32 = true is of GPUs"));
}

TEST_F(TrainDryRunTest, ADryRunRefusesWhatTheRunWouldRefuse) {
  TrainConfig config = Small("sm");
  config.train.steps = 2;
  ASSERT_EQ(Train(config).code, 0);
  config.train.seed = 3;
  const ProcessResult dry = Train(config, {"--dry-run"});
  const ProcessResult real = Train(config);
  EXPECT_EQ(dry.code, 78);
  EXPECT_THAT(dry.error, HasSubstr("train.seed = 3, but the checkpoint was made with 1337"));
  EXPECT_EQ(dry.error, real.error);
}

}  // namespace
}  // namespace entrain
