// A save is interrupted at each of its file-system calls, of whichever rank, in each world that a power cut can leave
// behind; and each of these calls fails on the rank that makes it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/checkpoint.h"
#include "parallel/checkpoint_folder.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/sample_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// What the save meets: checkpoints 10 and 20 with 30 to come and 10 to be removed; besides, optionally, a damaged 30 to be
// replaced.
enum class Before { kNothing, kTwo, kTwoAndDamaged };

constexpr RetentionPolicy kKeepTwo = {2, 0};

class World {
 public:
  explicit World(Before before, int ranks = 1)
      : before_(before),
        ranks_(ranks),
        faulty_(FileSystem::Posix(), JoinPath(root_.path(), "scratch")) {
    if (before == Before::kNothing) return;
    // Through a faulty file system without faults: its saves do not wait for the disk.
    FaultyFileSystem quick(FileSystem::Posix(), JoinPath(root_.path(), "before"));
    for (const int64_t step : {10, 20}) CHECK(SaveStep(quick, step).ok());
    if (before != Before::kTwoAndDamaged) return;
    std::filesystem::copy(JoinPath(folder_, "step_00000020"), JoinPath(folder_, "step_00000030"));
  }

  // The status that all ranks have returned.
  absl::Status SaveStep(FileSystem& fs, int64_t step, std::string* warning = nullptr) {
    const auto statuses = SaveSampleFromRanks(fs, folder_, ranks_, step, kKeepTwo, warning);
    for (const absl::Status& status : statuses) EXPECT_EQ(status, statuses[0]);
    return statuses[0];
  }

  // An error, after which the program goes on, leaves nothing that fills the disk.
  void ExpectNothingTemporary() {
    const absl::StatusOr<std::vector<DirEntry>> entries = FileSystem::Posix().List(folder_);
    if (!entries.ok()) return;
    for (const DirEntry& entry : *entries) EXPECT_THAT(entry.name, Not(StartsWith("tmp_")));
  }

  // Whatever happened, 20 or 30 is found and is whole, and training goes on.
  void ExpectSound(bool saved) {
    FaultyFileSystem restarted(FileSystem::Posix(), JoinPath(root_.path(), "after"));
    const CheckpointStore store(restarted, folder_);
    const absl::StatusOr<CheckpointInfo> latest = store.FindLatest(nullptr);
    if (before_ == Before::kNothing && !saved && !latest.ok()) {
      EXPECT_EQ(latest.status().code(), absl::StatusCode::kNotFound);
    } else {
      ASSERT_TRUE(latest.ok()) << latest.status();
      EXPECT_THAT(latest->step, AnyOf(20, 30));
      EXPECT_EQ(latest->step == 30 || !saved, true) << latest->step;
      EXPECT_EQ(SampleCheckpoint::Difference(restarted, latest->path, latest->step), "");
    }
    if (before_ != Before::kTwoAndDamaged) ExpectAllWhole(restarted, store);
    ExpectNextSaveWorks(restarted);
  }

  FaultyFileSystem& faulty() { return faulty_; }

 private:
  // What has a checkpoint's name is a checkpoint: none is half written or half removed.
  static void ExpectAllWhole(FileSystem& restarted, const CheckpointStore& store) {
    const std::vector<CheckpointInfo> found = store.List().value();
    for (const CheckpointInfo& info : found) {
      EXPECT_EQ(SampleCheckpoint::Difference(restarted, info.path, info.step), "");
    }
  }

  void ExpectNextSaveWorks(FileSystem& restarted) {
    for (const int64_t step : {30, 40}) {
      std::string warning;
      const absl::Status saved = SaveStep(restarted, step, &warning);
      ASSERT_TRUE(saved.ok()) << saved;
      EXPECT_EQ(warning, "");
    }
    CheckpointStore store(restarted, folder_);
    for (const int64_t step : {30, 40}) {
      const absl::StatusOr<CheckpointInfo> found = store.Find(step);
      ASSERT_TRUE(found.ok()) << found.status();
      EXPECT_EQ(SampleCheckpoint::Difference(restarted, found->path, step), "");
    }
    EXPECT_EQ(restarted.List(folder_)->size(), 2U) << "nothing else is left";
  }

  Before before_;
  int ranks_;
  TemporaryFolder root_{TemporaryFolder::FastPlace()};
  std::string folder_ = JoinPath(root_.path(), "run/checkpoints");
  FaultyFileSystem faulty_;
};

int64_t CallsOfASave(Before before, int ranks) {
  World world(before, ranks);
  CHECK(world.SaveStep(world.faulty(), 30).ok());
  return world.faulty().calls();
}

class CrashTest
    : public ::testing::TestWithParam<std::tuple<int, Before, UnsyncedContents, UnsyncedNames>> {};

TEST_P(CrashTest, AtEveryCallOfASave) {
  const auto [ranks, before, contents, names] = GetParam();
  const int64_t calls = CallsOfASave(before, ranks);
  EXPECT_GT(calls, 30);
  for (int64_t call = 1; call <= calls + 1; ++call) {
    SCOPED_TRACE(call);
    World world(before, ranks);
    world.faulty().CrashAt(call);
    std::string warning;
    const absl::Status saved = world.SaveStep(world.faulty(), 30, &warning);
    EXPECT_EQ(saved.ok() && warning.empty(), call == calls + 1) << saved;
    world.faulty().LosePower(contents, names);
    world.ExpectSound(saved.ok());
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Worlds, CrashTest,
    ::testing::Combine(::testing::Values(1),
                       ::testing::Values(Before::kNothing, Before::kTwo, Before::kTwoAndDamaged),
                       ::testing::Values(UnsyncedContents::kKept, UnsyncedContents::kHalf,
                                         UnsyncedContents::kLost),
                       ::testing::Values(UnsyncedNames::kKept, UnsyncedNames::kLost)));

// The ranks' calls come in another order each time.
INSTANTIATE_TEST_SUITE_P(
    Ranks, CrashTest,
    ::testing::Combine(::testing::Values(2, 3),
                       ::testing::Values(Before::kTwo, Before::kTwoAndDamaged),
                       ::testing::Values(UnsyncedContents::kHalf, UnsyncedContents::kLost),
                       ::testing::Values(UnsyncedNames::kKept, UnsyncedNames::kLost)));

class ErrorTest : public ::testing::TestWithParam<std::tuple<int, Before>> {};

TEST_P(ErrorTest, AtEveryCallOfASave) {
  const auto [ranks, before] = GetParam();
  const int64_t calls = CallsOfASave(before, ranks);
  for (const absl::Status& error : {absl::ResourceExhaustedError("no space left (made up)"),
                                    absl::InternalError("input/output error (made up)")}) {
    for (int64_t call = 1; call <= calls; ++call) {
      SCOPED_TRACE(call);
      World world(before, ranks);
      world.faulty().FailAt(call, error);
      std::string warning;
      const absl::Status saved = world.SaveStep(world.faulty(), 30, &warning);
      const std::string said = saved.ok() ? warning : std::string(saved.message());
      EXPECT_TRUE(saved.ok() || saved.code() == error.code()) << saved;
      // Neither: a damaged checkpoint that cannot even be read is replaced all the same.
      EXPECT_THAT(said, AnyOf("", HasSubstr("made up")));
      if (!saved.ok()) world.ExpectNothingTemporary();
      world.ExpectSound(saved.ok());
      if (HasFatalFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Befores, ErrorTest,
                         ::testing::Combine(::testing::Values(1, 3),
                                            ::testing::Values(Before::kNothing, Before::kTwo,
                                                              Before::kTwoAndDamaged)));

class RankErrorTest : public ::testing::TestWithParam<std::tuple<int, int>> {};

// Every call that concerns a rank's shard: its own ones, and for ranks other than 0 the first one's look at what they wrote.
TEST_P(RankErrorTest, OfOneRankIsTheSaveOfAllAndNamesTheRank) {
  const auto [ranks, rank] = GetParam();
  const std::string shard = JoinPath("tmp_step_00000030", ShardName(rank, ranks));
  World counting(Before::kTwo, ranks);
  counting.faulty().FailAtFile(shard, 0, absl::OkStatus());
  ASSERT_TRUE(counting.SaveStep(counting.faulty(), 30).ok());
  const int64_t calls = counting.faulty().calls_of_part();
  EXPECT_GE(calls, 4) << "create, write, sync, close";
  for (int64_t call = 1; call <= calls; ++call) {
    SCOPED_TRACE(call);
    World world(Before::kTwo, ranks);
    world.faulty().FailAtFile(shard, call, absl::ResourceExhaustedError("no space (made up)"));
    const absl::Status saved = world.SaveStep(world.faulty(), 30);
    const int from = rank > 0 && call == calls ? 0 : rank;
    EXPECT_EQ(saved.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(saved.message(), absl::StrCat("no space (made up) (rank ", from, ")"));
    world.ExpectNothingTemporary();
    world.ExpectSound(false);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, RankErrorTest,
                         ::testing::Values(std::tuple(2, 0), std::tuple(2, 1), std::tuple(3, 0),
                                           std::tuple(3, 1), std::tuple(3, 2)));

// The tests above must be able to fail: a save that renames before its contents are synced is caught.
TEST(FaultyFileSystem, CatchesASaveThatDoesNotSync) {
  TemporaryFolder root;
  FaultyFileSystem faulty(FileSystem::Posix(), JoinPath(root.path(), "scratch"));
  const std::string path = JoinPath(root.path(), "file");
  auto file = faulty.Create(path + ".tmp");
  ASSERT_TRUE((*file)->Append("text", 4).ok() && (*file)->Close().ok());
  ASSERT_TRUE(faulty.Rename(path + ".tmp", path).ok());
  ASSERT_TRUE(faulty.SyncDirectory(root.path()).ok());
  faulty.LosePower(UnsyncedContents::kLost, UnsyncedNames::kLost);
  EXPECT_EQ(*FileSystem::Posix().ReadText(path), "") << "the name is there, the text is not";
}

TEST(FaultyFileSystem, UndoesARenameThatIsNotSynced) {
  TemporaryFolder root;
  FaultyFileSystem faulty(FileSystem::Posix(), JoinPath(root.path(), "scratch"));
  const std::string path = JoinPath(root.path(), "file");
  ASSERT_TRUE(WriteTextAtomically(faulty, path, "old").ok());
  ASSERT_TRUE(WriteTextSynced(faulty, path + ".tmp", "new").ok());
  ASSERT_TRUE(faulty.Rename(path + ".tmp", path).ok());
  faulty.LosePower(UnsyncedContents::kLost, UnsyncedNames::kLost);
  EXPECT_EQ(*FileSystem::Posix().ReadText(path), "old");
  EXPECT_FALSE(*FileSystem::Posix().Exists(path + ".tmp"));
}

}  // namespace
}  // namespace entrain
