// Saves in the background: what lands, when it may be said, and what happens when it fails.
#include "launcher/background_save.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <functional>
#include <mutex>

#include "parallel/comm/communicator_host.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/gated_file_system.h"
#include "tests/support/local_ranks.h"
#include "tests/support/sample_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

constexpr int64_t kWidth = 300;  // 720 kB a checkpoint
constexpr RetentionPolicy kKeepMany = {100, 0};

// One rank's saver, with the sample of any step to save.
class Rank {
 public:
  Rank(Communicator& world, FileSystem& fs, const std::string& folder)
      : world_(world),
        context_(*Context::CreateCpu(2)),
        store_(fs, folder),
        saver_(*context_, world, store_, kKeepMany, ContentsOf(0).tensors) {}

  // The state goes on to something else as soon as the save has begun.
  void Start(int64_t step) {
    const CheckpointContents contents = ContentsOf(step);
    saver_.Start(contents);
    for (const StateTensor& tensor : contents.tensors) {
      std::fill_n(tensor.data, tensor.box.elements(), -1.0f);
    }
  }
  BackgroundSaver& saver() { return saver_; }

 private:
  CheckpointContents ContentsOf(int64_t step) {
    sample_ = std::make_unique<SampleCheckpoint>(step, kWidth);
    return sample_->ContentsOf(world_.rank(), world_.size());
  }

  Communicator& world_;
  std::unique_ptr<Context> context_;
  CheckpointStore store_;
  std::unique_ptr<SampleCheckpoint> sample_;
  BackgroundSaver saver_;
};

// What training does meanwhile: collectives over the world that the saver's communicator was split from.
void Train(Communicator& world, int steps) {
  std::vector<float> gradient(10'000);
  for (int step = 0; step < steps; ++step) {
    gradient.assign(gradient.size(), 1.0f);
    world.AllReduce({gradient.data(), DType::kF32, {static_cast<int64_t>(gradient.size())}},
                    ReduceOp::kSum, "gradients");
    ASSERT_EQ(gradient.back(), static_cast<float>(world.size()));
  }
}

// Trains until all ranks see the end of the save, as a run does: the number of steps.
int TrainUntilDone(Communicator& world, const BackgroundSaver& saver) {
  for (int steps = 0;; ++steps) {
    int32_t saving = saver.Done() ? 0 : 1;
    world.AllReduce({&saving, DType::kI32, {1}}, ReduceOp::kMax, "start of a step");
    if (saving == 0) return steps;
    Train(world, 1);
  }
}

class BackgroundSaverTest : public ::testing::TestWithParam<int> {
 protected:
  std::string folder() const { return JoinPath(root_.path(), "checkpoints"); }
  std::string scratch() const { return JoinPath(root_.path(), "scratch"); }
  std::string PathOf(int64_t step) const { return JoinPath(folder(), CheckpointName(step)); }
  std::string Difference(int64_t step) const {
    return SampleCheckpoint::Difference(FileSystem::Posix(), PathOf(step), step, kWidth);
  }
  // Runs every rank on a thread, with a saver each.
  void OnRanks(FileSystem& fs, const std::function<void(Communicator&, Rank&)>& body) const {
    RunLocalRanks(GetParam(),
                  [&](Communicator& world) {
                    Rank rank(world, fs, folder());
                    body(world, rank);
                  },
                  {.progress_microseconds = 50});
  }
  std::vector<std::pair<std::string, std::string>> Files(const std::string& path) const {
    std::vector<std::pair<std::string, std::string>> files;
    const std::vector<DirEntry> entries = FileSystem::Posix().List(path).value();
    for (const DirEntry& entry : entries) {
      files.emplace_back(entry.name, *FileSystem::Posix().ReadText(JoinPath(path, entry.name)));
    }
    return files;
  }

  TemporaryFolder root_;
};

TEST_P(BackgroundSaverTest, SavesTheStateAsItWasAtTheStart) {
  OnRanks(FileSystem::Posix(), [&](Communicator& world, Rank& rank) {
    EXPECT_TRUE(rank.saver().Done());
    rank.Start(7);
    EXPECT_TRUE(rank.saver().under_way());
    TrainUntilDone(world, rank.saver());
    const auto saved = rank.saver().Wait();
    ASSERT_TRUE(saved.ok()) << saved.status();
    EXPECT_EQ(saved->info.step, 7);
    EXPECT_EQ(saved->info.path, PathOf(7));
    EXPECT_EQ(saved->warning, "");
    EXPECT_GT(saved->seconds, 0.0);
    EXPECT_FALSE(rank.saver().under_way());
  });
  EXPECT_EQ(Difference(7), "");
}

TEST_P(BackgroundSaverTest, TheBytesAreThoseOfASaveInTheForeground) {
  OnRanks(FileSystem::Posix(), [&](Communicator&, Rank& rank) {
    rank.Start(7);
    ASSERT_TRUE(rank.saver().Wait().ok());
  });
  const auto background = Files(PathOf(7));
  const std::string other = JoinPath(root_.path(), "foreground");
  RunLocalRanks(GetParam(), [&](Communicator& world) {
    SampleCheckpoint sample(7, kWidth);
    ASSERT_TRUE(CheckpointStore(FileSystem::Posix(), other)
                    .Save(world, sample.ContentsOf(world.rank(), world.size()), kKeepMany)
                    .ok());
  });
  EXPECT_EQ(Files(JoinPath(other, CheckpointName(7))), background);
}

TEST_P(BackgroundSaverTest, StepsGoOnAndNothingIsSaidBeforeTheCommit) {
  GatedFileSystem fs(FileSystem::Posix(), "manifest");  // the commit, the last of all files
  OnRanks(fs, [&](Communicator& world, Rank& rank) {
    rank.Start(7);
    if (world.rank() == 0) fs.WaitForArrival();
    Train(world, 50);
    EXPECT_FALSE(rank.saver().Done());
    EXPECT_FALSE(FileSystem::Posix().Exists(PathOf(7)).value());
    world.Barrier("all have looked");
    if (world.rank() == 0) fs.Open();
    TrainUntilDone(world, rank.saver());
    EXPECT_TRUE(FileSystem::Posix().Exists(PathOf(7)).value());
    EXPECT_TRUE(rank.saver().Wait().ok());
  });
  EXPECT_EQ(Difference(7), "");
}

TEST_P(BackgroundSaverTest, SavesInQuickSuccessionAllLand) {
  OnRanks(FileSystem::Posix(), [&](Communicator& world, Rank& rank) {
    for (int64_t step = 1; step <= 5; ++step) {
      rank.Start(step);
      if (step % 2 == 0) Train(world, 3);
      const auto saved = rank.saver().Wait();
      ASSERT_TRUE(saved.ok()) << saved.status();
      EXPECT_EQ(saved->info.step, step);
    }
  });
  for (int64_t step = 1; step <= 5; ++step) EXPECT_EQ(Difference(step), "");
}

TEST_P(BackgroundSaverTest, ItsEndWaitsForTheSaveUnderWay) {
  OnRanks(FileSystem::Posix(), [&](Communicator&, Rank& rank) { rank.Start(7); });
  EXPECT_EQ(Difference(7), "");
}

TEST_P(BackgroundSaverTest, AnErrorIsThatOfTheForegroundOnEveryRankAndLosesNothing) {
  FaultyFileSystem fs(FileSystem::Posix(), scratch());
  std::mutex mutex;
  std::vector<absl::Status> statuses;
  OnRanks(fs, [&](Communicator& world, Rank& rank) {
    rank.Start(1);
    ASSERT_TRUE(rank.saver().Wait().ok());
    world.Barrier("the first is there");
    if (world.rank() == 0) fs.PretendFreeSpace(1000);
    world.Barrier("the disk is full");
    rank.Start(2);
    TrainUntilDone(world, rank.saver());
    const absl::Status status = rank.saver().Wait().status();
    {
      const std::lock_guard<std::mutex> lock(mutex);
      statuses.push_back(status);
    }
    world.Barrier("all have failed");
    if (world.rank() == 0) fs.PretendFreeSpace(-1);
    world.Barrier("there is space again");
    rank.Start(3);
    EXPECT_TRUE(rank.saver().Wait().ok());
  });
  fs.PretendFreeSpace(1000);
  RunLocalRanks(GetParam(), [&](Communicator& world) {
    SampleCheckpoint sample(2, kWidth);
    CheckpointStore store(fs, folder());
    const absl::Status foreground =
        store.Save(world, sample.ContentsOf(world.rank(), world.size()), kKeepMany).status();
    EXPECT_TRUE(absl::IsResourceExhausted(foreground)) << foreground;
    for (const absl::Status& status : statuses) EXPECT_EQ(status, foreground);
  });
  EXPECT_EQ(statuses.size(), static_cast<size_t>(GetParam()));
  EXPECT_EQ(Difference(1), "");
  EXPECT_FALSE(FileSystem::Posix().Exists(PathOf(2)).value());
  EXPECT_EQ(Difference(3), "");
}

// A kill while the save stands at each of its files in turn.
TEST_P(BackgroundSaverTest, AKillLosesNothingThatWasCommitted) {
  for (const std::string part : {"shard_", "tensors.json", "state.json", "manifest"}) {
    SCOPED_TRACE(part);
    const std::string at = JoinPath(CheckpointName(2), part);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      GatedFileSystem fs(FileSystem::Posix(), at);
      OnRanks(fs, [&](Communicator& world, Rank& rank) {
        rank.Start(1);
        if (!rank.saver().Wait().ok()) ::_exit(1);
        rank.Start(2);
        if (world.rank() == 0) fs.WaitForArrival();
        Train(world, 3);
        ::raise(SIGKILL);
      });
      ::_exit(2);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child) << std::strerror(errno);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
    const auto latest = CheckpointStore(FileSystem::Posix(), folder()).FindLatest(nullptr);
    ASSERT_TRUE(latest.ok()) << latest.status();
    EXPECT_EQ(latest->step, 1);
    EXPECT_EQ(Difference(1), "");
  }
  OnRanks(FileSystem::Posix(), [&](Communicator&, Rank& rank) { rank.Start(2); });
  EXPECT_EQ(Difference(2), "");
}

INSTANTIATE_TEST_SUITE_P(Ranks, BackgroundSaverTest, ::testing::Values(1, 2, 4),
                         ::testing::PrintToStringParamName());

TEST(BackgroundSaverMisuseTest, StartingTwiceOrWaitingForNothingIsAProgrammersError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const TemporaryFolder root;
  auto world = MakeWorldOfOne();
  Rank rank(*world, FileSystem::Posix(), JoinPath(root.path(), "checkpoints"));
  EXPECT_DEATH(rank.saver().Wait().IgnoreError(), "no save is under way");
  EXPECT_DEATH(
      {
        rank.Start(1);
        rank.Start(2);
      },
      "waited for");
}

}  // namespace
}  // namespace entrain
