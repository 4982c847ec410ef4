// entrain train under mpirun: the same course as alone, resuming, signals, lost ranks, one message.
#include "tests/support/train_ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <regex>

#include "parallel/checkpoint.h"
#include "runtime/device/context.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(TrainRanksTest, TwoRanksFollowOne) {
  RunIn("one");
  MicroStepOf(2, 1);
  ASSERT_EQ(Train(1).code, 0);
  const auto one = Metrics();
  RunIn("two");
  MicroStepOf(2, 2);
  const ProcessResult result = Train(2);
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.output, HasSubstr("2 ranks = dp 2 x tp 1, from mpirun"));
  EXPECT_THAT(result.output, HasSubstr("communication mpi"));
  const auto two = Metrics();
  ASSERT_EQ(two.size(), one.size());
  for (size_t i = 0; i < one.size(); ++i) {
    const double loss = one[i]["loss"];
    EXPECT_NEAR(two[i]["loss"], loss, 1e-5 * loss) << "step " << i + 1;
    EXPECT_NEAR(two[i]["penalty"], one[i]["penalty"], 1e-5) << "step " << i + 1;
  }
}

TEST_F(TrainRanksTest, TheBannerSaysHowRanksShareTheCores) {
  const int cores = Context::AllowedCores();
  const std::string too_many = "note         2 ranks x ";
  config_.train.threads = 0;
  const ProcessResult open = Train(2, {"--dry-run"});
  ASSERT_EQ(open.code, 0) << open.error;
  EXPECT_THAT(open.output, HasSubstr("threads      " + std::to_string(std::max(1, cores / 2)) +
                                     " a rank: the 2 ranks of this host share"));
  EXPECT_EQ(open.output.find(too_many) == std::string::npos, cores >= 2) << open.output;
  config_.train.threads = cores;
  const ProcessResult asked = Train(2, {"--dry-run"});
  ASSERT_EQ(asked.code, 0) << asked.error;
  EXPECT_THAT(asked.output, HasSubstr("a rank: train.threads"));
  EXPECT_THAT(asked.output, HasSubstr(too_many));
}

TEST_F(TrainRanksTest, TheBannerNamesABindingThatLeavesCoresIdle) {
  if (Context::AllowedCores() < 2) GTEST_SKIP() << "this machine has one core";
  config_.train.threads = 0;
  const ProcessResult bound = RunProcess(With(Mpirun(1, {"--bind-to", "hwthread"}), {"--dry-run"}));
  ASSERT_EQ(bound.code, 0) << bound.error;
  EXPECT_THAT(bound.output, HasSubstr("note         a rank may use 1 of the "));
  EXPECT_THAT(bound.output, HasSubstr("unless --bind-to none is given"));
}

// The banner's memory row, without what is free at the time.
std::string MemoryRow(const ProcessResult& result) {
  const size_t begin = result.output.find("memory ");
  return result.output.substr(begin, result.output.find(" (free", begin) - begin);
}

TEST_F(TrainRanksTest, APlannedMeshTakesTheMemoryOfTheRealOne) {
  config_.model.width = 240;
  config_.model.vocab = 20000;
  const std::string whole = MemoryRow(Train(1, {"--dry-run"}));
  for (const std::string& mesh : std::vector<std::string>{"parallel.zero=1", "parallel.tp=2"}) {
    const ProcessResult planned = Train(1, {"--dry-run", "--ranks", "2", "--set", mesh});
    const ProcessResult real = Train(2, {"--dry-run", "--set", mesh});
    ASSERT_EQ(planned.code, 0) << planned.error;
    ASSERT_EQ(real.code, 0) << real.error;
    EXPECT_EQ(MemoryRow(planned), MemoryRow(real)) << mesh;
    EXPECT_NE(MemoryRow(planned), whole) << mesh;
  }
}

TEST_F(TrainRanksTest, ARestartContinuesToTheBitAndOnOtherRanksToRounding) {
  MicroStepOf(4, 2);
  RunIn("whole");
  ASSERT_EQ(Train(2).code, 0);
  const auto whole = CheckpointBytes(config_.run.dir, 12);
  const auto course = Metrics();
  RunIn("cut");
  ASSERT_EQ(Train(2, {"--stop-at", "6"}).code, 75);
  ASSERT_EQ(Train(2, {"--resume", "must"}).code, 0);
  const auto cut = CheckpointBytes(config_.run.dir, 12);
  ASSERT_EQ(cut.size(), whole.size());
  for (size_t i = 0; i < cut.size(); ++i) {
    EXPECT_TRUE(cut[i].first == "config.toml" || cut[i] == whole[i]) << cut[i].first;
  }
  RunIn("moved");
  ASSERT_EQ(Train(2, {"--stop-at", "6"}).code, 75);
  MicroStepOf(4, 1);
  ASSERT_EQ(Train(1, {"--resume", "must"}).code, 0);
  const auto moved = Metrics();
  ASSERT_EQ(moved.size(), course.size());
  for (size_t i = 0; i < course.size(); ++i) {
    const double loss = course[i]["loss"];
    EXPECT_NEAR(moved[i]["loss"], loss, 1e-5 * loss) << "step " << i + 1;
  }
}

TEST_F(TrainRanksTest, OneRanksSignalIsEnough) {
  config_.train.steps = 1000000;
  RunningProcess process(Command(2, {}));
  WaitForStep(3);
  const std::vector<pid_t> ranks = ChildrenOf(process.pid());
  ASSERT_EQ(ranks.size(), 2U);
  kill(ranks.back(), SIGUSR1);
  const ProcessResult result = process.Wait();
  EXPECT_EQ(result.code, 75) << result.error;
  EXPECT_EQ(VerdictFile()["code"], 75);
  EXPECT_EQ(VerdictFile()["reason"], "SIGUSR1");
  EXPECT_EQ(VerdictFile()["last_commit"], VerdictFile()["step"]);
}

TEST_F(TrainRanksTest, MpirunPassesItsSignalOn) {
  config_.train.steps = 1000000;
  RunningProcess process(Command(2, {}));
  WaitForStep(3);
  process.Signal(SIGUSR2);
  EXPECT_EQ(process.Wait().code, 75);
  EXPECT_EQ(VerdictFile()["reason"], "SIGUSR2");
}

TEST_F(TrainRanksTest, ALostRankEndsTheOthersAndLosesNoCheckpoint) {
  config_.train.steps = 1000000;
  config_.checkpoint.every = 2;
  RunningProcess process(Command(2, {}));
  WaitForStep(5);
  const std::vector<pid_t> ranks = ChildrenOf(process.pid());
  ASSERT_EQ(ranks.size(), 2U);
  kill(ranks.back(), SIGKILL);
  EXPECT_NE(process.Wait().code, 0);
  const ProcessResult inspect = RunEntrain({"inspect", config_.run.dir});
  EXPECT_EQ(inspect.code, 0) << inspect.error;
}

TEST_F(TrainRanksTest, AnErrorIsToldOnce) {
  config_.train.global_batch = 4;
  for (const auto& [more, message] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--set", "data.train=" + folder_.path() + "/gone.bin"}, "gone.bin"},
           {{"--set", "parallel.dp=4"}, "world 2 from mpirun (OMPI_COMM_WORLD_SIZE=2) is not dp 4"},
           {{"--set", "train.micro_batch=4"}, "train.global_batch = 4: must be a multiple of 8"},
           {{"--resume", "must"}, "no checkpoint"}}) {
    const ProcessResult result = Train(2, more);
    EXPECT_EQ(result.code, 78) << result.error;
    EXPECT_THAT(result.error, HasSubstr(message));
    const size_t first = result.error.find("entrain: ");
    ASSERT_NE(first, std::string::npos);
    EXPECT_EQ(result.error.find("entrain: ", first + 1), std::string::npos) << result.error;
  }
}

TEST_F(TrainRanksTest, OtherCommandsAreForOneProcess) {
  std::vector<std::string> command = Mpirun(2, {});
  command.insert(command.end(), {ENTRAIN_BINARY, "inspect", config_.run.dir});
  const ProcessResult result = RunProcess(command);
  EXPECT_EQ(result.code, 78) << result.error;
  EXPECT_EQ(result.output, "");
  const std::string message =
      "entrain: entrain inspect runs in one process, and mpirun started 2 (OMPI_COMM_WORLD_SIZE=2)";
  const size_t first = result.error.find(message);
  ASSERT_NE(first, std::string::npos) << result.error;
  EXPECT_EQ(result.error.find("runs in one process", first + message.size()), std::string::npos);
}

TEST_F(TrainRanksTest, AWrongCommandLineIsToldOnce) {
  const ProcessResult result = Train(2, {"--steps", "4"});
  EXPECT_EQ(result.code, 2) << result.error;
  const size_t first = result.error.find("entrain train has no option --steps");
  ASSERT_NE(first, std::string::npos) << result.error;
  EXPECT_EQ(result.error.find("no option", first + 20), std::string::npos) << result.error;
}

// Counted from outside (mpi_handles_preload.cc), and by Open MPI's own report.
TEST_F(TrainRanksTest, NothingOfMpiIsLeftAtTheEnd) {
  config_.train.steps = 3;
  const std::vector<std::string> launcher =
      Mpirun(2, {"--bind-to", "none", "--mca", "mpi_show_handle_leaks", "1", "--mca",
                 "mpi_show_mpi_alloc_mem_leaks", "9", "-x", "LD_PRELOAD=" ENTRAIN_MPI_HANDLES});
  for (const std::string& mesh : std::vector<std::string>{"parallel.zero=1", "parallel.tp=2"}) {
    SCOPED_TRACE(mesh);
    RunIn(mesh);
    const ProcessResult result = RunProcess(With(launcher, {"--set", mesh}));
    ASSERT_EQ(result.code, 0) << result.error;
    const std::regex nothing_left(
        "mpi handles left: 0 of [1-9]\\d* communicators, 0 of [1-9]\\d* requests");
    const std::sregex_iterator told(result.error.begin(), result.error.end(), nothing_left);
    EXPECT_EQ(std::distance(told, std::sregex_iterator()), 2) << result.error;
    EXPECT_THAT(result.error, Not(HasSubstr("still allocated")));
    EXPECT_THAT(result.error, Not(HasSubstr("MPI_ALLOC_MEM")));
  }
}

// Only the first rank writes: a full or missing folder is its error alone, and all leave.
TEST_F(TrainRanksTest, AnErrorOfOneRankEndsAll) {
  config_.run.dir = folder_.path() + "/tokens.bin/run";
  const ProcessResult result = Train(2);
  EXPECT_EQ(result.code, 78) << result.error;
  EXPECT_THAT(result.error, HasSubstr("(rank 0)"));
}

}  // namespace
}  // namespace entrain
