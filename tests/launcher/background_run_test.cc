// Runs that save in the background: the same checkpoints, and nothing said before it is so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "launcher/train_run.h"
#include "parallel/comm/communicator_host.h"
#include "tests/support/gated_file_system.h"
#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TrainConfig Small(const TemporaryFolder& folder, const std::string& variant) {
  for (const Variant& candidate : Variants()) {
    if (candidate.name != variant) continue;
    TrainConfig config = SmallRun(folder.path(), candidate.config);
    config.logging.every = 1;
    config.checkpoint.keep = 100;
    return config;
  }
  ADD_FAILURE() << "no variant " << variant;
  return {};
}

std::string TextOf(const std::string& path) {
  return FileSystem::Posix().ReadText(path).value_or("");
}

class BackgroundRunTest : public ::testing::Test {
 protected:
  ProcessResult Train(const TrainConfig& config, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"train", "--config",
                                          WriteConfig(folder_.path(), "train.toml", config)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunEntrain(arguments);
  }
  std::string run() const { return folder_.path() + "/run"; }
  nlohmann::json VerdictFile() const {
    return nlohmann::json::parse(TextOf(run() + "/verdict.json"));
  }
  int64_t LoggedSteps() const {
    const std::string text = TextOf(run() + "/metrics.jsonl");
    return std::count(text.begin(), text.end(), '\n');
  }
  void WaitForStep(int64_t step) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (LoggedSteps() < step) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "step " << step << " did not come";
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  bool IsCommitted(int64_t step) const {
    return CheckpointStore(FileSystem::Posix(), run() + "/checkpoints").Find(step).ok();
  }
  int64_t NewestCommitted() const {
    const auto there = CheckpointStore(FileSystem::Posix(), run() + "/checkpoints").List();
    return there.ok() && !there->empty() ? there->back().step : 0;
  }
  // The steps that the output says are saved.
  static std::vector<int64_t> SavedSteps(const std::string& output) {
    const std::regex line("saved \\S*/(step_[0-9]+)( \\([0-9.]+ s in the background\\))?\n");
    std::vector<int64_t> steps;
    for (std::sregex_iterator it(output.begin(), output.end(), line), end; it != end; ++it) {
      steps.push_back(CheckpointStep((*it)[1]));
    }
    return steps;
  }

  TemporaryFolder folder_;
};

class BackgroundVariantTest : public BackgroundRunTest,
                              public ::testing::WithParamInterface<std::string> {};

// Every step is saved: each save falls due while the one before it may be under way.
TEST_P(BackgroundVariantTest, EveryCheckpointIsThatOfTheForeground) {
  TrainConfig config = Small(folder_, GetParam());
  config.train.steps = 6;
  config.train.threads = 2;
  config.checkpoint.every = 1;
  const ProcessResult foreground = Train(config);
  ASSERT_EQ(foreground.code, 0) << foreground.error;
  std::vector<std::vector<std::pair<std::string, std::string>>> expected(1);
  for (int64_t step = 1; step <= 6; ++step) expected.push_back(CheckpointBytes(run(), step));
  ASSERT_TRUE(FileSystem::Posix().RemoveTree(run()).ok());

  config.checkpoint.background = true;
  const ProcessResult background = Train(config);
  ASSERT_EQ(background.code, 0) << background.error;
  EXPECT_EQ(SavedSteps(background.output), (std::vector<int64_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_THAT(background.output, HasSubstr(" s in the background)"));
  EXPECT_EQ(VerdictFile()["last_commit"], 6);
  for (int64_t step = 1; step <= 6; ++step) {
    auto found = CheckpointBytes(run(), step);
    for (auto& [name, text] : found) {
      const size_t at = text.find("background = true");
      if (name == "config.toml" && at != std::string::npos)
        text.replace(at, 17, "background = false");
    }
    EXPECT_TRUE(found == expected[static_cast<size_t>(step)]) << "step " << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, BackgroundVariantTest,
                         ::testing::Values("ereg_previous_step", "sm_snorm"),
                         [](const auto& info) { return info.param; });

// In this process, on a disk that hangs: steps go on until the next save falls due, and "saved" is said after the commit.
TEST_F(BackgroundRunTest, StepsGoOnAndNothingIsSaidBeforeTheCommit) {
  TrainConfig config = Small(folder_, "ereg");
  config.train.steps = 12;
  config.checkpoint.every = 5;
  config.checkpoint.background = true;
  ASSERT_TRUE(FileSystem::Posix().MakeDirectories(run()).ok());
  GatedFileSystem fs(FileSystem::Posix(), CheckpointName(5) + "/manifest");
  std::unique_ptr<Communicator> world = MakeWorldOfOne();
  auto device = ChooseRunDevice(DeviceChoice::kCpu, *world, {.threads = 1});
  ASSERT_TRUE(device.ok()) << device.status();
  const Mesh mesh(std::move(world), {});
  RunRequests requests(fs, {.run_dir = run()});
  Watchdog watchdog({});
  TrainRun training(fs, config, {.threads = {.threads = 1}}, *device, mesh, {&requests, &watchdog});
  ASSERT_TRUE(training.SetUp().ok());

  std::thread watcher([&] {
    fs.WaitForArrival();
    WaitForStep(10);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_EQ(LoggedSteps(), 10) << "the save of step 10 waits for that of step 5";
    EXPECT_FALSE(IsCommitted(5));
    fs.Open();
  });
  ::testing::internal::CaptureStdout();
  const absl::StatusOr<Verdict> verdict = training.Run();
  const std::string output = ::testing::internal::GetCapturedStdout();
  watcher.join();
  ASSERT_TRUE(verdict.ok()) << verdict.status();
  EXPECT_EQ(verdict->last_commit, 12);
  EXPECT_EQ(verdict->checkpoint, run() + "/checkpoints/" + CheckpointName(12));
  EXPECT_EQ(SavedSteps(output), (std::vector<int64_t>{5, 10, 12}));
  EXPECT_GT(output.find("saved "), output.find("step 10/12")) << output;
  for (const int64_t step : {5, 10, 12}) EXPECT_TRUE(IsCommitted(step)) << step;
}

// An error of another kind ends the run while a save is under way.
TEST_F(BackgroundRunTest, AnErrorLeavesWhenWhatIsBeingSavedIsCommitted) {
  TrainConfig config = Small(folder_, "sm_g");
  config.train.steps = 1000;
  config.optimizer.lr = 1e18;
  config.optimizer.warmup_steps = 0;
  config.train.max_bad_steps = 2;
  config.checkpoint.every = 1;
  config.checkpoint.background = true;
  const ProcessResult result = Train(config);
  EXPECT_EQ(result.code, 1) << result.error;
  const std::vector<int64_t> saved = SavedSteps(result.output);
  ASSERT_FALSE(saved.empty());
  EXPECT_THAT(result.error, HasSubstr("The last checkpoint is " + run() + "/checkpoints/" +
                                      CheckpointName(saved.back())));
  EXPECT_EQ(VerdictFile()["last_commit"], saved.back());
  EXPECT_EQ(saved.back() + 1, VerdictFile()["step"]);
}

TEST_F(BackgroundRunTest, ASignalLeavesWithTheLastStepSaved) {
  TrainConfig config = Small(folder_, "ereg");
  config.train.steps = 1000000;
  config.checkpoint.every = 2;
  config.checkpoint.keep = 2;
  config.checkpoint.background = true;
  RunningProcess process(
      {ENTRAIN_BINARY, "train", "--config", WriteConfig(folder_.path(), "train.toml", config)});
  WaitForStep(5);
  process.Signal(SIGUSR1);
  const ProcessResult result = process.Wait();
  ASSERT_EQ(result.code, 75) << result.error;
  EXPECT_EQ(VerdictFile()["last_commit"], VerdictFile()["step"]);
  EXPECT_EQ(SavedSteps(result.output).back(), VerdictFile()["step"]);
  EXPECT_TRUE(IsCommitted(VerdictFile()["step"]));
}

// As `ulimit -f` sets it.
TEST_F(BackgroundRunTest, AFailedSaveEndsTheRunWithTheForegroundsMessage) {
  TrainConfig config = Small(folder_, "sm");
  config.train.steps = 1000;
  ASSERT_EQ(Train(config, {"--stop-at", "2"}).code, 75);
  config.checkpoint.every = 4;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit limit{20000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const ProcessResult foreground = Train(config);
  config.checkpoint.background = true;
  const ProcessResult background = Train(config);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_THAT(foreground.error, HasSubstr("File too large"));
  EXPECT_EQ(background.error, foreground.error);
  EXPECT_EQ(background.code, 1);
  EXPECT_EQ(foreground.code, 1);
  EXPECT_EQ(VerdictFile()["last_commit"], 2);
  EXPECT_THAT(background.output, Not(HasSubstr("saved ")));
  EXPECT_EQ(Train(config, {"--resume", "must", "--stop-at", "5"}).code, 75);
}

// Killed at many moments, most of them in a save: what was said to be saved is there.
TEST_F(BackgroundRunTest, AKillLosesNothingThatWasSaid) {
  TrainConfig config = Small(folder_, "ereg");
  config.train.steps = 1000000;
  config.checkpoint.every = 1;
  config.checkpoint.keep = 2;
  config.checkpoint.background = true;
  const std::string path = WriteConfig(folder_.path(), "train.toml", config);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(5);
  int64_t newest = 0;
  for (int kill = 0; kill < 12; ++kill) {
    RunningProcess process({ENTRAIN_BINARY, "train", "--config", path});
    while (NewestCommitted() < newest + 2) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "no checkpoint came";
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kill));
    process.Signal(SIGKILL);
    const ProcessResult result = process.Wait();
    ASSERT_EQ(result.code, 128 + SIGKILL) << result.error;
    const std::vector<int64_t> said = SavedSteps(result.output);
    const auto latest =
        CheckpointStore(FileSystem::Posix(), run() + "/checkpoints").FindLatest(nullptr);
    ASSERT_TRUE(latest.ok()) << latest.status();
    ASSERT_FALSE(said.empty());
    EXPECT_GE(latest->step, said.back());
    newest = latest->step;
  }
}

TEST_F(BackgroundRunTest, ADryRunCountsTheCopy) {
  for (const std::string variant : {"sm", "ereg", "sm_snorm"}) {
    TrainConfig config = Small(folder_, variant);
    config.model.width *= 32;
    const ProcessResult without = Train(config, {"--dry-run"});
    config.checkpoint.background = true;
    const ProcessResult with = Train(config, {"--dry-run"});
    ASSERT_EQ(with.code, 0) << with.error;
    EXPECT_THAT(without.output, Not(HasSubstr("copy for background saves")));
    EXPECT_THAT(with.output, HasSubstr("copy for background saves"));
  }
}

}  // namespace
}  // namespace entrain
