// A run is asked to save or to leave, by files in its folder and by the clock, alone and on two ranks; and what it tells
// meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <filesystem>

#include "tests/support/train_ranks.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class TrainRequestsTest : public TrainRanksTest, public ::testing::WithParamInterface<int> {
 protected:
  TrainRequestsTest() {
    config_.train.steps = 1000000;
    config_.checkpoint.every = 0;
  }
  std::string Path(const std::string& name) const { return config_.run.dir + "/" + name; }
  void Touch(const std::string& name) const { std::ofstream(Path(name)) << ""; }
  void WaitUntilGone(const std::string& name) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (std::filesystem::exists(Path(name))) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << name << " is still there";
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  int64_t NumCheckpoints() const {
    int64_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(Path("checkpoints"))) {
      count += entry.path().filename().string().starts_with("step_") ? 1 : 0;
    }
    return count;
  }
  void ExpectLeft(const ProcessResult& result, const std::string& reason) const {
    EXPECT_EQ(result.code, 75) << result.error;
    EXPECT_EQ(VerdictFile()["code"], 75);
    EXPECT_THAT(std::string(VerdictFile()["reason"]), HasSubstr(reason));
    EXPECT_EQ(VerdictFile()["last_commit"], VerdictFile()["step"]);
  }
};

INSTANTIATE_TEST_SUITE_P(Ranks, TrainRequestsTest, ::testing::Values(1, 2),
                         [](const auto& info) { return std::to_string(info.param) + "Ranks"; });

TEST_P(TrainRequestsTest, SwitchFiles) {
  RunningProcess process(Command(GetParam(), {}));
  WaitForStep(3);
  Touch("SAVE");
  WaitUntilGone("SAVE");
  EXPECT_EQ(NumCheckpoints(), 1);
  const int64_t saved_until = Metrics().back()["step"];
  WaitForStep(saved_until + 3);  // it goes on
  Touch("STOP");
  ExpectLeft(process.Wait(), "the file " + Path("STOP"));
  EXPECT_FALSE(std::filesystem::exists(Path("STOP")));
  EXPECT_EQ(NumCheckpoints(), 2);
}

TEST_P(TrainRequestsTest, SwitchFilesWhileSavesGoOnInTheBackground) {
  config_.checkpoint.background = true;
  config_.checkpoint.every = 2;
  RunningProcess process(Command(GetParam(), {}));
  WaitForStep(3);
  Touch("SAVE");
  WaitUntilGone("SAVE");
  EXPECT_GE(NumCheckpoints(), 1);
  Touch("STOP");
  ExpectLeft(process.Wait(), "STOP");
}

TEST_P(TrainRequestsTest, MinutesSinceTheStart) {
  config_.run.exit_after_minutes = 0.02;
  ExpectLeft(Train(GetParam()), "[run] exit_after_minutes = 0.02");
}

TEST_P(TrainRequestsTest, TheEndOfTheSlurmJob) {
  config_.run.exit_margin_seconds = 120;
  setenv("SLURM_JOB_END_TIME", std::to_string(std::time(nullptr) + 123).c_str(), 1);
  const ProcessResult result = Train(GetParam());
  unsetenv("SLURM_JOB_END_TIME");
  ExpectLeft(result, "SLURM_JOB_END_TIME");
}

TEST_P(TrainRequestsTest, TheHeartbeatTellsOfTheRun) {
  setenv("SLURM_JOB_ID", "77", 1);
  RunningProcess process(Command(GetParam(), {}));
  WaitForStep(3);
  const auto read = [&] {
    std::ifstream file(Path("heartbeat.json"));
    return nlohmann::json::parse(file);
  };
  EXPECT_EQ(read()["job_id"], "77");
  EXPECT_EQ(read()["steps"], 1000000);
  EXPECT_THAT(std::string(read()["time"]), StartsWith("20"));
  Touch("STOP");
  ASSERT_EQ(process.Wait().code, 75);
  unsetenv("SLURM_JOB_ID");
  EXPECT_EQ(read()["step"], VerdictFile()["step"]);
  EXPECT_EQ(read()["last_commit"], VerdictFile()["step"]);
  EXPECT_EQ(read()["phase"], "end");
  EXPECT_TRUE(read()["loss"].is_number());
}

}  // namespace
}  // namespace entrain
