// Whole runs by a table of measurements: written before the first step, taken by resumed runs and by others, equal to the bit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "launcher/tuning_table.h"
#include "tests/support/train_ranks.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class TunedRunsTest : public TrainRanksTest {
 protected:
  TunedRunsTest() {
    config_.train.steps = 4;
    config_.train.device = DeviceChoice::kCuda;
    config_.train.precision = Precision::kBf16;
    config_.logging.every = 1;
  }

  ProcessResult Run(const std::vector<std::string>& more = {}, int code = 0, int ranks = 1) const {
    std::vector<std::string> command;
    if (ranks > 1) command = Mpirun(ranks, {"--bind-to", "none"});
    command.insert(command.end(), {std::getenv("ENTRAIN_TEST_BINARY"), "train", "--config",
                                   WriteConfig(folder_.path(), "train.toml", config_)});
    command.insert(command.end(), more.begin(), more.end());
    ProcessResult result = RunProcess(command);
    EXPECT_EQ(result.code, code) << result.error << result.output;
    return result;
  }
  std::string Table(const std::string& dir) const {
    return FileSystem::Posix().ReadText(dir + "/tuning.txt").value_or("none");
  }
  // Of the last checkpoint, but for what names the run's folder.
  std::vector<std::pair<std::string, std::string>> Bytes() const {
    auto bytes = CheckpointBytes(config_.run.dir, config_.train.steps);
    std::erase_if(bytes, [](const auto& file) { return file.first == "config.toml"; });
    return bytes;
  }
};

TEST_F(TunedRunsTest, ATableIsWrittenAndGivesTheSameBitsToOthersAndWhenItIsCut) {
  RunIn("tuned");
  config_.train.tune = true;
  const std::string tuned = config_.run.dir;
  EXPECT_THAT(Run({"--stop-at", "2"}, 75).output,
              AllOf(HasSubstr("products measured"), HasSubstr("attention")));
  const std::string table = Table(tuned);
  EXPECT_THAT(table, AllOf(HasSubstr("entrain tuning 2\nattention "),
                           HasSubstr("entrain matmul table 2\n")));
  // It continues by its table, whatever the configuration says by now.
  EXPECT_THAT(Run({"--resume", "must", "--set", "train.tune=false"}).output,
              HasSubstr("products in " + tuned + "/tuning.txt"));
  EXPECT_EQ(Table(tuned), table);
  const auto bytes = Bytes();

  // Another run, by that table, without a break.
  RunIn("other");
  config_.train.tune = false;
  config_.train.tuning = tuned + "/tuning.txt";
  const int count = ParseTuningTable(table)->NumProducts();
  EXPECT_THAT(Run().output, HasSubstr(absl::StrCat(count, " of this run's ", count, " products by ",
                                                   config_.train.tuning)));
  EXPECT_TRUE(Bytes() == bytes);
  EXPECT_EQ(Table(config_.run.dir), table);
}

// What is chosen without one is what heuristics propose.
TEST_F(TunedRunsTest, ATableOfNothingIsNoTable) {
  RunIn("plain");
  EXPECT_THAT(Run().output, HasSubstr("entrain (not measured)"));
  EXPECT_EQ(Table(config_.run.dir), "none");
  const auto bytes = Bytes();
  RunIn("tuned");
  config_.train.tune = true;
  Run({"--stop-at", "1"}, 75);
  TuningTable nothing{.products = ParseTuningTable(Table(config_.run.dir))->products};
  nothing.products.erase(nothing.products.find('\n', nothing.products.find('\n') + 1) + 1);
  RunIn("cut");
  config_.train.tune = false;
  Run({"--stop-at", "1"}, 75);
  ASSERT_TRUE(
      WriteTextAtomically(FileSystem::Posix(), config_.run.dir + "/tuning.txt", ToText(nothing))
          .ok());
  EXPECT_THAT(Run().output, HasSubstr("0 products in "));
  EXPECT_TRUE(Bytes() == bytes);
}

TEST_F(TunedRunsTest, ATableOfWhichARunMakesNoProductIsRefused) {
  RunIn("fp32");
  config_.train.tune = true;
  config_.train.precision = Precision::kFp32;
  Run({"--stop-at", "1"}, 75);
  const std::string table = config_.run.dir + "/tuning.txt";
  RunIn("bf16");
  config_.train.tune = false;
  config_.train.tuning = table;
  config_.train.precision = Precision::kBf16;
  EXPECT_THAT(Run({"--dry-run"}).output,
              AllOf(HasSubstr("products in " + table), HasSubstr("a start counts")));
  EXPECT_THAT(Run({}, 78).error,
              AllOf(HasSubstr("train.tuning = \"" + table + "\""), HasSubstr("none of its"),
                    HasSubstr("precision"), HasSubstr("train.tune = true")));
  EXPECT_EQ(Table(config_.run.dir), "none");
}

TEST_F(TunedRunsTest, RanksShareTheFirstOnesTable) {
  RunIn("ranks");
  config_.train.tune = true;
  config_.train.steps = 2;
  config_.parallel.tp = 2;
  EXPECT_THAT(Run({}, 0, 2).output, HasSubstr("products measured"));
  EXPECT_THAT(Table(config_.run.dir), HasSubstr("entrain tuning 2"));
}

TEST_F(TunedRunsTest, ATableOfAnotherGpuIsRefused) {
  RunIn("tuned");
  const std::string path = folder_.path() + "/foreign.txt";
  ASSERT_TRUE(WriteTextAtomically(FileSystem::Posix(), path,
                                  ToText({.products = "entrain matmul table 2\nNVIDIA X, 1 "
                                                      "multiprocessors, cuBLASLt 1\n"}))
                  .ok());
  const ProcessResult result = Run({"--set", "train.tuning=" + path}, 78);
  EXPECT_THAT(result.error, AllOf(HasSubstr("foreign.txt"), HasSubstr("NVIDIA X")));
}

TEST_F(TunedRunsTest, CudnnIsRefusedWhereItIsNot) {
  config_.model.temperature = Temperature::kNone;
  RunIn("cudnn");
  setenv("ENTRAIN_CUDNN_LIBRARY", "/nowhere/libcudnn.so.9", 1);
  const ProcessResult result = Run({"--set", "train.attention=cudnn"}, 78);
  unsetenv("ENTRAIN_CUDNN_LIBRARY");
  EXPECT_THAT(result.error, AllOf(HasSubstr("train.attention = cudnn"), HasSubstr("cuDNN")));
  EXPECT_FALSE(std::filesystem::exists(config_.run.dir + "/checkpoints/step_00000001"));
}

TEST_F(TunedRunsTest, RanksOnOneGpuCannotAskForNccl) {
  RunIn("nccl");
  setenv("CUDA_VISIBLE_DEVICES", "0", 1);
  const ProcessResult result = Run({"--set", "parallel.backend=nccl"}, 78, 2);
  unsetenv("CUDA_VISIBLE_DEVICES");
  EXPECT_THAT(result.error, AllOf(HasSubstr("parallel.backend = nccl"), HasSubstr("GPU")));
}

}  // namespace
}  // namespace entrain
