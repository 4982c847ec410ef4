// Saves in the background under mpirun: the same checkpoints as in the foreground, and none is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "parallel/checkpoint.h"
#include "runtime/io/manifest.h"
#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

struct MeshCase {
  int ranks;
  int tp;
  int zero;
};

void PrintTo(const MeshCase& mesh, std::ostream* out) {
  *out << mesh.ranks << "_ranks_tp_" << mesh.tp << "_zero_" << mesh.zero;
}

// Processes whose parent is `parent`.
std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  const std::string pid = std::to_string(parent);
  std::ifstream file("/proc/" + pid + "/task/" + pid + "/children");
  for (pid_t child = 0; file >> child;) children.push_back(child);
  return children;
}

class BackgroundRanksTest : public ::testing::TestWithParam<MeshCase> {
 protected:
  BackgroundRanksTest() {
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }

  // Every step saves: each save falls due while the one before it may be under way.
  void Configure() {
    for (const Variant& variant : Variants()) {
      if (variant.name == "ereg") config_ = SmallRun(folder_.path(), variant.config);
    }
    config_.train.micro_batch = GetParam().tp;  // its rows must divide over tp
    config_.parallel.tp = GetParam().tp;
    config_.parallel.zero = GetParam().zero;
    config_.checkpoint.every = 1;
  }
  std::vector<std::string> Command(bool background) {
    config_.checkpoint.background = background;
    config_.run.dir = folder_.path() + (background ? "/background" : "/foreground");
    return {ENTRAIN_MPIRUN, "--oversubscribe",
            "--bind-to",    "none",
            "-n",           std::to_string(GetParam().ranks),
            ENTRAIN_BINARY, "train",
            "--config",     WriteConfig(folder_.path(), "train.toml", config_)};
  }
  ProcessResult Train(bool background) { return RunProcess(Command(background)); }

  // The newest checkpoint, once it is at least of `step`.
  static int64_t WaitForCheckpoint(const CheckpointStore& store, int64_t step) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (std::chrono::steady_clock::now() < deadline) {
      const auto there = store.List();
      if (there.ok() && !there->empty() && there->back().step >= step) return there->back().step;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ADD_FAILURE() << "no checkpoint came";
    return step;
  }

  TemporaryFolder folder_;
  TrainConfig config_;
};

TEST_P(BackgroundRanksTest, EveryCheckpointIsThatOfTheForeground) {
  Configure();
  config_.train.steps = 6;
  config_.checkpoint.keep = 100;
  const ProcessResult foreground = Train(false);
  ASSERT_EQ(foreground.code, 0) << foreground.error;
  const std::string foreground_run = config_.run.dir;
  const ProcessResult background = Train(true);
  ASSERT_EQ(background.code, 0) << background.error;
  EXPECT_THAT(background.output, HasSubstr(" s in the background)"));
  for (int64_t step = 1; step <= 6; ++step) {
    const auto expected = CheckpointBytes(foreground_run, step);
    const auto found = CheckpointBytes(config_.run.dir, step);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      // The configuration names the run's own folder.
      EXPECT_TRUE(found[i].first == "config.toml" || found[i] == expected[i])
          << "step " << step << " " << found[i].first;
    }
  }
}

// A rank is killed while every step saves: what was committed stays, and a restart continues from it.
TEST_P(BackgroundRanksTest, ALostRankLosesNoCheckpoint) {
  Configure();
  config_.train.steps = 1000000;
  config_.checkpoint.keep = 2;
  RunningProcess process(Command(true));
  CheckpointStore store(FileSystem::Posix(), config_.run.dir + "/checkpoints");
  const int64_t seen = WaitForCheckpoint(store, 5);
  const std::vector<pid_t> ranks = ChildrenOf(process.pid());
  ASSERT_EQ(ranks.size(), static_cast<size_t>(GetParam().ranks));
  kill(ranks.back(), SIGKILL);
  EXPECT_NE(process.Wait().code, 0);
  const auto latest = store.FindLatest(nullptr);
  ASSERT_TRUE(latest.ok()) << latest.status();
  EXPECT_GE(latest->step, seen);
  config_.train.steps = latest->step + 3;
  const ProcessResult resumed = RunProcess(Command(true));
  EXPECT_EQ(resumed.code, 0) << resumed.error;
  EXPECT_THAT(resumed.output, HasSubstr("resuming " + latest->path));
}

// A later program's checkpoint turns up where one is to be saved: rank 0 refuses, and all leave at the same step.
TEST_P(BackgroundRanksTest, AFailedSaveEndsAllRanksWithTheForegroundsMessage) {
  constexpr int64_t kRefused = 1000;
  Configure();
  config_.train.steps = 1000000;
  config_.checkpoint.every = 20;
  std::vector<std::string> messages;
  for (const bool background : {false, true}) {
    // Made beforehand: the run does not wait for it.
    const std::string later = folder_.path() + "/later";
    ASSERT_TRUE(FileSystem::Posix().MakeDirectories(later).ok());
    Manifest manifest;
    manifest.extra = R"({"checkpoint_version": 99, "step": 1000})";
    ASSERT_TRUE(CommitManifest(FileSystem::Posix(), later, manifest).ok());
    RunningProcess process(Command(background));
    const std::string folder = config_.run.dir + "/checkpoints";
    WaitForCheckpoint(CheckpointStore(FileSystem::Posix(), folder), 20);
    const absl::Status renamed =
        FileSystem::Posix().Rename(later, JoinPath(folder, CheckpointName(kRefused)));
    ASSERT_TRUE(renamed.ok()) << renamed;
    const ProcessResult result = process.Wait();
    EXPECT_EQ(result.code, 78) << result.output << result.error;
    const std::string at = JoinPath(folder, CheckpointName(kRefused - 20));
    EXPECT_THAT(result.output, HasSubstr("saved " + at));
    const std::string verdict =
        FileSystem::Posix().ReadText(config_.run.dir + "/verdict.json").value_or("");
    EXPECT_THAT(verdict, HasSubstr(at));
    const size_t begin = result.error.find("entrain: ");
    ASSERT_NE(begin, std::string::npos) << result.error;
    EXPECT_EQ(result.error.find("entrain: ", begin + 1), std::string::npos) << result.error;
    messages.push_back(result.error.substr(begin, result.error.find('\n', begin) - begin));
    EXPECT_THAT(messages.back(), HasSubstr("in checkpoint version 99"));
  }
  const std::string name = "/background/";
  messages[1].replace(messages[1].find(name), name.size(), "/foreground/");
  EXPECT_EQ(messages[1], messages[0]);
}

INSTANTIATE_TEST_SUITE_P(Meshes, BackgroundRanksTest,
                         ::testing::Values(MeshCase{2, 1, 0}, MeshCase{2, 1, 1}, MeshCase{2, 2, 0},
                                           MeshCase{4, 1, 0}, MeshCase{4, 1, 1}, MeshCase{4, 2, 1}),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace entrain
