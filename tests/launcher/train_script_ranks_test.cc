// cluster/mpirun.sh: starts a run again that lost a rank, as long as it gets on, and leaves it alone otherwise.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstring>

#include "runtime/base/clock.h"
#include "tests/support/train_ranks.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class TrainScriptTest : public TrainRanksTest {
 protected:
  TrainScriptTest() {
    setenv("ENTRAIN", ENTRAIN_BINARY, 1);
    setenv("MPIRUN_OPTIONS", "--oversubscribe", 1);
  }
  std::vector<std::string> Script(const std::vector<std::string>& more = {}) const {
    return With({ENTRAIN_SOURCE_DIR "/cluster/mpirun.sh", "2"}, more);
  }
  // With(launcher) ends in: binary train --config FILE; the script takes FILE alone.
  std::vector<std::string> With(std::vector<std::string> script,
                                const std::vector<std::string>& more) const {
    script.push_back(WriteConfig(folder_.path(), "train.toml", config_));
    script.insert(script.end(), more.begin(), more.end());
    return script;
  }
  // The last of the ranks below mpirun, which is below the script.
  static void KillARank(const RunningProcess& process) {
    for (const pid_t child : ChildrenOf(process.pid())) {
      const std::vector<pid_t> ranks = ChildrenOf(child);
      if (ranks.empty()) continue;
      kill(ranks.back(), SIGKILL);
      return;
    }
    FAIL() << "there are no ranks";
  }
};

TEST_F(TrainScriptTest, RunsToTheEnd) {
  const ProcessResult result = RunProcess(Script());
  EXPECT_EQ(result.code, 0) << result.error;
  EXPECT_EQ(VerdictFile()["code"], 0);
}

TEST_F(TrainScriptTest, StartsAgainAfterALostRankAndFinishes) {
  config_.train.steps = 200;
  config_.checkpoint.every = 3;
  RunningProcess process(Script());
  WaitForStep(7);
  KillARank(process);
  const ProcessResult result = process.Wait();
  EXPECT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.error, HasSubstr("rank 1"));
  EXPECT_THAT(result.error, HasSubstr("ended with 137; continuing from"));
  EXPECT_THAT(result.output, HasSubstr("resuming"));
  EXPECT_EQ(VerdictFile()["step"], 200);
}

TEST_F(TrainScriptTest, IsNotStartedAgainWithoutACheckpointSince) {
  config_.train.steps = 1000000;
  config_.checkpoint.every = 0;
  RunningProcess process(Script());
  WaitForStep(5);
  KillARank(process);
  const ProcessResult result = process.Wait();
  EXPECT_EQ(result.code, 137) << result.error;
  EXPECT_THAT(result.error, HasSubstr("no checkpoint since the last start: not started again"));
}

TEST_F(TrainScriptTest, ASignalSavesAndLeaves) {
  config_.train.steps = 1000000;
  for (const int signal : {SIGUSR1, SIGTERM, SIGHUP, SIGINT}) {
    SCOPED_TRACE(strsignal(signal));
    RunIn("run" + std::to_string(signal));
    RunningProcess process(Script());
    WaitForStep(3);
    kill(process.pid(), signal);
    const ProcessResult result = process.Wait();
    EXPECT_EQ(result.code, 75) << result.error;
    EXPECT_THAT(result.error, Not(HasSubstr("continuing")));
    EXPECT_EQ(VerdictFile()["reason"], "SIGUSR1");
  }
}

// The ranks hang, so that the first one cannot be followed.
TEST_F(TrainScriptTest, ASecondInterruptEndsItAtOnce) {
  config_.train.steps = 1000000;
  RunningProcess process(Script());
  WaitForStep(3);
  for (const pid_t mpirun : ChildrenOf(process.pid())) {
    for (const pid_t rank : ChildrenOf(mpirun)) kill(rank, SIGSTOP);
  }
  kill(process.pid(), SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_EQ(kill(process.pid(), 0), 0);
  const auto asked = SteadyClock::now();
  kill(process.pid(), SIGINT);
  EXPECT_NE(process.Wait().code, 0);
  EXPECT_LT(SecondsSince(asked), 8.0);
}

TEST_F(TrainScriptTest, WhatIsWrongIsToldBeforeAnythingStarts) {
  const ProcessResult result = RunProcess(Script({"--set", "train.steps=-1"}));
  EXPECT_EQ(result.code, 78) << result.error;
  EXPECT_THAT(result.error, HasSubstr("train.steps"));
  EXPECT_THAT(result.error, Not(HasSubstr("mpirun")));
}

}  // namespace
}  // namespace entrain
