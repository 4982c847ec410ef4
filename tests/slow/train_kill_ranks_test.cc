// A run of several ranks that is killed again and again, at any moment, ends with the weights of one that was left alone.
// ENTRAIN_KILLS says how often; a few times by default.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <random>

#include "parallel/checkpoint.h"
#include "tests/support/train_ranks.h"

namespace entrain {
namespace {

int Kills() {
  const char* asked = std::getenv("ENTRAIN_KILLS");
  return asked != nullptr ? std::atoi(asked) : 3;
}

struct KilledRun {
  const char* name;
  int ranks;
  int64_t tp;
  int64_t zero;
  bool background;
};

class TrainKillTest : public TrainRanksTest, public ::testing::WithParamInterface<KilledRun> {
 protected:
  TrainKillTest() {
    config_.parallel.tp = GetParam().tp;
    config_.parallel.zero = GetParam().zero;
    config_.checkpoint.background = GetParam().background;
    config_.checkpoint.every = 3;
    // Steps of some milliseconds, and more of them than a run comes to before it is killed.
    config_.train.global_batch = 64;
    config_.train.steps = 150 * Kills();
  }

  int64_t LoggedStep() const {
    const auto records = Metrics();
    return records.empty() ? 0 : records.back()["step"].get<int64_t>();
  }

  // A moment of the start-up, or after some more steps.
  void WaitForAMoment() {
    if (random_() % 4 == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(random_() % 800));
      return;
    }
    // A resumed run takes back the records after its checkpoint, so a step may come twice.
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
    WaitForStep(LoggedStep() + static_cast<int64_t>(random_() % 6));
    std::this_thread::sleep_for(std::chrono::microseconds(random_() % 20000));
  }

  // Of a rank, any; waits until there is one. False when there is none for long: the run has ended by itself.
  bool KillOne(const RunningProcess& process) {
    for (int tries = 0; tries < 500; ++tries) {
      const std::vector<pid_t> pids = ChildrenOf(process.pid());
      if (!pids.empty()) return kill(pids[random_() % pids.size()], SIGKILL) == 0;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  std::mt19937 random_{20261126};
};

TEST_P(TrainKillTest, EndsWithTheWeightsOfAnUndisturbedRun) {
  RunIn("undisturbed");
  ASSERT_EQ(Train(GetParam().ranks).code, 0);
  const auto expected = CheckpointBytes(config_.run.dir, config_.train.steps);

  RunIn("killed");
  for (int killed = 0; killed < Kills(); ++killed) {
    RunningProcess process(Command(GetParam().ranks, {}));
    // The first not before there is something to continue from: a save begins when the one before it is committed.
    if (killed == 0) WaitForStep(2 * config_.checkpoint.every + 1);
    WaitForAMoment();
    ASSERT_TRUE(KillOne(process)) << "the run ended before it was killed";
    const ProcessResult result = process.Wait();
    ASSERT_EQ(result.code, 137) << result.error;
  }
  const ProcessResult last = Train(GetParam().ranks);
  ASSERT_EQ(last.code, 0) << last.error;
  EXPECT_THAT(last.output, ::testing::HasSubstr("resuming"));
  const auto found = CheckpointBytes(config_.run.dir, config_.train.steps);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(found[i].first == "config.toml" || found[i] == expected[i]) << found[i].first;
  }
}

INSTANTIATE_TEST_SUITE_P(Meshes, TrainKillTest,
                         ::testing::Values(KilledRun{"dp2zero", 2, 1, 1, false},
                                           KilledRun{"tp2background", 2, 2, 0, true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace entrain
