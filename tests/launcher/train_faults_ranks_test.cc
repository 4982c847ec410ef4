// What can go wrong with one rank of several: each fault ends the run within 20 seconds with a message that names rank and
// operation, a code other than 0, and a run that resumes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "parallel/checkpoint.h"
#include "runtime/base/clock.h"
#include "tests/support/train_ranks.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

void Sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

class TrainFaultsTest : public TrainRanksTest {
 protected:
  TrainFaultsTest() {
    config_.train.steps = 1000000;
    config_.checkpoint.every = 3;
  }

  // The ranks of a run that has come some way.
  std::vector<pid_t> RanksUnderWay(const RunningProcess& process, size_t ranks) {
    WaitForStep(5);
    std::vector<pid_t> found = ChildrenOf(process.pid());
    EXPECT_EQ(found.size(), ranks);
    return found;
  }

  // Waits for the end, which a fault must bring soon.
  static ProcessResult EndSoon(RunningProcess& process) {
    const auto start = SteadyClock::now();
    ProcessResult result = process.Wait();
    EXPECT_LT(SecondsSince(start), 20.0);
    return result;
  }

  void ExpectResumes(int ranks) {
    const auto latest = LatestStep();
    ASSERT_GE(latest, 3);
    config_.train.steps = latest + 2;
    const ProcessResult again = Train(ranks, {"--resume", "must"});
    EXPECT_EQ(again.code, 0) << again.error;
    EXPECT_THAT(again.output, HasSubstr("resuming"));
    EXPECT_EQ(VerdictFile()["step"], latest + 2);
  }

  int64_t LatestStep() const {
    int64_t latest = -1;
    for (const auto& entry :
         std::filesystem::directory_iterator(config_.run.dir + "/checkpoints")) {
      latest = std::max(latest, CheckpointStep(entry.path().filename()));
    }
    return latest;
  }

  // Each rank with its own options, environment or folder: "mpirun -n 1 A : -n 1 B".
  std::vector<std::string> EachItsOwn(const std::vector<std::vector<std::string>>& commands) const {
    std::vector<std::string> all = {ENTRAIN_MPIRUN, "--oversubscribe", "--bind-to", "none"};
    for (size_t r = 0; r < commands.size(); ++r) {
      if (r > 0) all.push_back(":");
      all.insert(all.end(), {"-n", "1"});
      all.insert(all.end(), commands[r].begin(), commands[r].end());
    }
    return all;
  }
  std::vector<std::string> One(std::vector<std::string> before = {},
                               const std::vector<std::string>& after = {}) const {
    const std::string path = WriteConfig(folder_.path(), "train.toml", config_);
    before.insert(before.end(), {ENTRAIN_BINARY, "train", "--config", path});
    before.insert(before.end(), after.begin(), after.end());
    return before;
  }

  static void ExpectOneMessage(const ProcessResult& result, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) EXPECT_THAT(result.error, HasSubstr(part));
    const size_t first = result.error.find("entrain: ");
    ASSERT_NE(first, std::string::npos) << result.error;
    EXPECT_EQ(result.error.find("entrain: ", first + 1), std::string::npos) << result.error;
  }
};

struct MeshOfFault {
  const char* name;
  int dp, tp;
  int64_t zero;
};

class LostRankTest : public TrainFaultsTest, public ::testing::WithParamInterface<MeshOfFault> {
 protected:
  LostRankTest() {
    config_.parallel.tp = GetParam().tp;
    config_.parallel.zero = GetParam().zero;
  }
  int ranks() const { return GetParam().dp * GetParam().tp; }

  // Kills rank `lost`: the lowest that is left tells, and the run resumes.
  ProcessResult Kill(RunningProcess& process, const std::vector<pid_t>& pids, int lost) {
    kill(pids[static_cast<size_t>(lost)], SIGKILL);
    ProcessResult result = EndSoon(process);
    EXPECT_EQ(result.code, 137) << result.error;
    ExpectLossToldOnce(result, lost == 0 ? 1 : 0, lost);
    ExpectResumes(ranks());
    return result;
  }

  // By rank `teller`, of rank `lost`, in the message and in the verdict.
  void ExpectLossToldOnce(const ProcessResult& result, int teller, int lost) const {
    ExpectOneMessage(result, {absl::StrCat("entrain: rank ", teller, " of ", ranks(), " on "),
                              absl::StrCat(": rank ", lost, " (process "),
                              ") has ended without a message", "this rank is after step ", " over ",
                              "continues from its last checkpoint, step "});
    EXPECT_EQ(VerdictFile()["code"], 1);
    EXPECT_THAT(std::string(VerdictFile()["reason"]),
                HasSubstr(absl::StrCat(": rank ", lost, " (process ")));
    EXPECT_GE(VerdictFile()["last_commit"], 3);
  }
};

INSTANTIATE_TEST_SUITE_P(Meshes, LostRankTest,
                         ::testing::Values(MeshOfFault{"dp2", 2, 1, 0},
                                           MeshOfFault{"dp2zero", 2, 1, 1},
                                           MeshOfFault{"tp2", 1, 2, 0},
                                           MeshOfFault{"dp2tp2", 2, 2, 1}),
                         [](const auto& info) { return info.param.name; });

TEST_P(LostRankTest, StoppedIsFoundByItsSilence) {
  // One mesh by the default of ten seconds; the others need not make every test run wait as long.
  if (GetParam().name != std::string("dp2")) config_.parallel.peer_timeout_seconds = 3;
  RunningProcess process(Command(ranks(), {}));
  const std::vector<pid_t> pids = RanksUnderWay(process, static_cast<size_t>(ranks()));
  kill(pids[1], SIGSTOP);
  const ProcessResult result = EndSoon(process);
  EXPECT_NE(result.code, 0);
  EXPECT_THAT(result.error,
              ContainsRegex("entrain: rank [0-9] of [0-9] on .*: rank 1 has given no sign of life "
                            "for [0-9]+ s.*this rank is in .* over [a-z]+, waiting for rank"));
  EXPECT_EQ(VerdictFile()["code"], 1);
  EXPECT_THAT(std::string(VerdictFile()["reason"]), HasSubstr("rank 1 has given no sign of life"));
  EXPECT_GE(VerdictFile()["last_commit"], 3);
  ExpectResumes(ranks());
}

// Wherever it and the others are.
TEST_P(LostRankTest, KilledWhileItComputes) {
  RunningProcess process(Command(ranks(), {}));
  Kill(process, RanksUnderWay(process, static_cast<size_t>(ranks())), 1);
}

TEST_P(LostRankTest, TheFirstRankIsKilled) {
  RunningProcess process(Command(ranks(), {}));
  Kill(process, RanksUnderWay(process, static_cast<size_t>(ranks())), 0);
}

// The others are certainly in a reduction: a rank that is stopped first does not come to it.
TEST_P(LostRankTest, KilledWhileOthersWaitForItInAReduction) {
  RunningProcess process(Command(ranks(), {}));
  const std::vector<pid_t> pids = RanksUnderWay(process, static_cast<size_t>(ranks()));
  kill(pids[1], SIGSTOP);
  Sleep(1.0);
  const ProcessResult result = Kill(process, pids, 1);
  EXPECT_THAT(result.error, ContainsRegex(", in .* over [a-z]+, waiting for rank"));
}

// Steps of a second in which ranks compute without each other nearly all the time.
TEST_F(TrainFaultsTest, KilledWhileAllCompute) {
  config_.model.context = 256;
  config_.train.global_batch = 512;
  config_.train.micro_batch = 256;
  WriteTokens(config_.data.train, 512 * config_.model.context + 1, config_.model.vocab, 1);
  RunningProcess process(Command(2, {}));
  const std::vector<pid_t> pids = RanksUnderWay(process, 2);
  kill(pids[1], SIGKILL);
  const ProcessResult result = EndSoon(process);
  EXPECT_EQ(result.code, 137) << result.error;
  ExpectOneMessage(result, {"entrain: rank 0 of 2 on ", ": rank 1 (process ",
                            "this rank is after step ", " over "});
  ExpectResumes(2);
}

TEST_P(LostRankTest, KilledWhileItSaves) {
  config_.checkpoint.every = 1;
  RunningProcess process(Command(ranks(), {}));
  const std::vector<pid_t> pids = RanksUnderWay(process, static_cast<size_t>(ranks()));
  const std::filesystem::path folder = config_.run.dir + "/checkpoints";
  const auto a_save_is_under_way = [&] {
    std::error_code gone;  // entries come and go
    for (auto at = std::filesystem::directory_iterator(folder, gone);
         at != std::filesystem::directory_iterator(); at.increment(gone)) {
      if (gone) return false;
      if (at->path().filename().string().starts_with("tmp_step")) return true;
    }
    return false;
  };
  while (!a_save_is_under_way()) {
  }
  Kill(process, pids, 1);
}

// ---- hangs ----

// A job that is suspended and continued as a whole blames nobody.
TEST_F(TrainFaultsTest, ASuspendedJobGoesOn) {
  config_.parallel.peer_timeout_seconds = 3;
  RunningProcess process(Command(2, {}));
  const std::vector<pid_t> pids = RanksUnderWay(process, 2);
  for (const pid_t pid : pids) kill(pid, SIGSTOP);
  Sleep(5.0);
  for (const pid_t pid : pids) kill(pid, SIGCONT);
  Sleep(4.0);
  kill(pids[0], SIGUSR1);
  const ProcessResult result = process.Wait();
  EXPECT_EQ(result.code, 75) << result.error;
}

// In a step, or in the save after it: wherever the others miss the rank.
TEST_F(TrainFaultsTest, TheWatchdogEndsAStepThatDoesNotEnd) {
  config_.parallel.peer_timeout_seconds = 0;
  config_.run.step_timeout_minutes = 0.05;
  config_.run.save_timeout_minutes = 0.05;
  RunningProcess process(Command(2, {}));
  kill(RanksUnderWay(process, 2)[1], SIGSTOP);
  const ProcessResult result = EndSoon(process);
  EXPECT_EQ(result.code, 1);
  ExpectOneMessage(result, {"entrain: rank 0 of 2 on", "no end of ", "within 0.05 minutes",
                            "_timeout_minutes", "waiting for rank 1"});
  EXPECT_EQ(VerdictFile()["code"], 1);
  ExpectResumes(2);
}

TEST_F(TrainFaultsTest, AWaitEndsAfterItsTimeOut) {
  config_.parallel.peer_timeout_seconds = 0;
  config_.parallel.wait_timeout_seconds = 2;
  RunningProcess process(Command(2, {}));
  kill(RanksUnderWay(process, 2)[1], SIGSTOP);
  const ProcessResult result = process.Wait();
  EXPECT_EQ(result.code, 1);
  ExpectOneMessage(result, {"entrain: rank 0 of 2 on", "nothing came from rank 1 for 2 s"});
}

// ---- what ranks were given ----

TEST_F(TrainFaultsTest, AnotherConfiguration) {
  const ProcessResult result =
      RunProcess(EachItsOwn({One(), One({}, {"--set", "optimizer.lr=0.5"})}));
  EXPECT_EQ(result.code, 78) << result.error;
  ExpectOneMessage(result, {"the configuration of rank 1 on", "is not that of rank 0",
                            "[optimizer] lr = 0.5 and not lr = ", "start all ranks with the same"});
}

TEST_F(TrainFaultsTest, AnotherOption) {
  const ProcessResult result = RunProcess(EachItsOwn({One(), One({}, {"--stop-at", "7"})}));
  EXPECT_EQ(result.code, 78) << result.error;
  ExpectOneMessage(result, {"[command line] --stop-at 7 and not --stop-at 0"});
}

TEST_F(TrainFaultsTest, AnOptionThatOneRankCannotRead) {
  const ProcessResult result = RunProcess(EachItsOwn({One(), One({}, {"--resume", "perhaps"})}));
  EXPECT_EQ(result.code, 78) << result.error;
  ExpectOneMessage(result, {"perhaps", "(rank 1)"});
}

// Hosts that each have a copy of the data: here folders, as the path is relative.
class OwnDataTest : public TrainFaultsTest {
 protected:
  OwnDataTest() {
    for (const char* name : {"a", "b"}) {
      mkdir((folder_.path() + "/" + name).c_str(), 0700);
      WriteTokens(folder_.path() + "/" + name + "/own.bin", 500, config_.model.vocab, 1);
    }
    config_.data.train = "own.bin";
  }
  ProcessResult TrainInBoth() {
    const std::string a = folder_.path() + "/a";
    const std::string b = folder_.path() + "/b";
    return RunProcess(EachItsOwn({One({"--wdir", a}), One({"--wdir", b})}));
  }
};

TEST_F(OwnDataTest, OfOtherTokens) {
  WriteTokens(folder_.path() + "/b/own.bin", 500, config_.model.vocab, 2);
  const ProcessResult result = TrainInBoth();
  EXPECT_EQ(result.code, 78) << result.error;
  ExpectOneMessage(result, {"the data of rank 1 on", "500 tokens in 1 file", "and not",
                            "give all hosts the same token files"});
}

TEST_F(OwnDataTest, AbsentOnOneHost) {
  std::filesystem::remove(folder_.path() + "/b/own.bin");
  const ProcessResult result = TrainInBoth();
  EXPECT_EQ(result.code, 78) << result.error;
  ExpectOneMessage(result, {"own.bin", "(rank 1)"});
}

TEST_F(OwnDataTest, TruncatedOnOneHost) {
  std::filesystem::resize_file(folder_.path() + "/b/own.bin", 1200);
  const ProcessResult result = TrainInBoth();
  EXPECT_EQ(result.code, 78) << result.error;
  ExpectOneMessage(result, {"own.bin", "(rank 1)"});
}

// A limit on the size of files stands for a full disk.
TEST_F(TrainFaultsTest, NoSpaceOnOneRank) {
  config_.train.steps = 4;
  ASSERT_EQ(Train(2).code, 0);
  config_.train.steps = 8;
  std::string plain;
  for (const std::string& word : One()) plain += word + " ";
  const ProcessResult result =
      RunProcess(EachItsOwn({One(), {"/bin/bash", "-c", "ulimit -f 4; exec " + plain}}));
  EXPECT_EQ(result.code, 1) << result.error;
  ExpectOneMessage(result, {"step_00000006", "shard_00001_of_00002", "(rank 1)"});
  EXPECT_EQ(VerdictFile()["last_commit"], 4);
  ExpectResumes(2);
}

TEST_F(TrainFaultsTest, AWorldThatSlurmContradicts) {
  setenv("SLURM_NTASKS", "4", 1);
  const ProcessResult result = Train(2);
  unsetenv("SLURM_NTASKS");
  EXPECT_EQ(result.code, 78) << result.error;
  ExpectOneMessage(result, {"SLURM_NTASKS=4, but this world has 2 ranks"});
}

}  // namespace
}  // namespace entrain
