#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/checkpoint.h"
#include "parallel/checkpoint_folder.h"
#include "parallel/checkpoint_gather.h"
#include "parallel/comm/communicator_host.h"
#include "runtime/io/manifest.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/sample_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class CheckpointStoreTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Save(int64_t step, RetentionPolicy retention = {100, 0}) {
    SampleCheckpoint sample(step);
    return store_.Save(*MakeWorldOfOne(), sample.Contents(), retention, &warning_);
  }
  void SaveAll(const std::vector<int64_t>& steps, RetentionPolicy retention = {100, 0}) {
    for (const int64_t step : steps) {
      const auto saved = Save(step, retention);
      ASSERT_TRUE(saved.ok()) << saved.status();
      ASSERT_EQ(warning_, "");
    }
  }
  std::vector<int64_t> Steps() {
    std::vector<int64_t> steps;
    const std::vector<CheckpointInfo> found = store_.List().value();
    for (const CheckpointInfo& info : found) steps.push_back(info.step);
    return steps;
  }
  std::string Path(int64_t step) const { return JoinPath(folder_, CheckpointName(step)); }

  // Bytes of the state file replaced by as many others: only the checksum tells.
  void Damage(int64_t step) {
    ASSERT_TRUE(
        WriteTextSynced(
            fs_, JoinPath(Path(step), kStateName),
            std::string(static_cast<size_t>(fs_.FileSize(JoinPath(Path(step), kStateName)).value()),
                        'x'))
            .ok());
  }

  // Commits the checkpoint again as if it had been written in another checkpoint version.
  void MakeOfVersion(int version, int64_t step) {
    Manifest manifest = ReadManifest(fs_, Path(step)).value();
    manifest.extra =
        absl::StrCat(R"({"checkpoint_version": )", version, R"(, "step": )", step, "}");
    ASSERT_TRUE(CommitManifest(fs_, Path(step), manifest).ok());
  }

  TemporaryFolder root_;
  std::string folder_ = JoinPath(root_.path(), "run/checkpoints");
  FaultyFileSystem fs_{FileSystem::Posix(), JoinPath(root_.path(), "scratch")};
  CheckpointStore store_{fs_, folder_};
  std::string warning_;
};

TEST(CheckpointName, GoesBothWays) {
  EXPECT_EQ(CheckpointName(0), "step_00000000");
  EXPECT_EQ(CheckpointName(1000), "step_00001000");
  EXPECT_EQ(CheckpointName(123456789012), "step_123456789012");
  for (const int64_t step :
       {int64_t{0}, int64_t{7}, int64_t{99999999}, int64_t{100000000}, INT64_MAX}) {
    EXPECT_EQ(CheckpointStep(CheckpointName(step)), step);
  }
  for (const char* name : {"", "step_", "step_1", "step_-0000001", "step_+0000001", "step_ 0000001",
                           "step_0000000x", "step_000000001", "tmp_step_00000001", "Step_00000001",
                           "step_00000001.old", "step_99999999999999999999"}) {
    EXPECT_EQ(CheckpointStep(name), -1) << name;
  }
}

TEST_F(CheckpointStoreTest, TheManifestTellsWhatComputedIt) {
  SampleCheckpoint sample(10);
  CheckpointContents contents = sample.Contents();
  contents.computed_by = {.device = "NVIDIA H200, 139 GiB, sm_90",
                          .libraries = "cuBLASLt 13.1.0",
                          .collectives = "NCCL 2.28.9, NCCL_ALGO=Ring"};
  ASSERT_TRUE(store_.Save(*MakeWorldOfOne(), contents, {100, 0}, nullptr).ok());
  EXPECT_THAT(ReadManifest(fs_, Path(10))->extra,
              HasSubstr(R"("collectives":"NCCL 2.28.9, NCCL_ALGO=Ring","device":"NVIDIA H200)"));
  const ComputedBy by = CheckpointReader::Open(fs_, Path(10))->computed_by();
  EXPECT_EQ(by.program, "entrain " ENTRAIN_VERSION);
  EXPECT_EQ(by.device, contents.computed_by.device);
  EXPECT_EQ(by.libraries, contents.computed_by.libraries);
  EXPECT_EQ(by.collectives, contents.computed_by.collectives);
}

TEST_F(CheckpointStoreTest, WhatComputedItNeedNotBeRecorded) {
  SaveAll({10});
  for (const char* recorded : {"", R"(, "computed_by": 3)", R"(, "computed_by": {"device": []})"}) {
    Manifest manifest = ReadManifest(fs_, Path(10)).value();
    manifest.extra = absl::StrCat(R"({"checkpoint_version": 2, "step": 10)", recorded, "}");
    ASSERT_TRUE(CommitManifest(fs_, Path(10), manifest).ok());
    const auto reader = CheckpointReader::Open(fs_, Path(10));
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ(reader->computed_by().device, "") << recorded;
  }
}

TEST_F(CheckpointStoreTest, SavesAndFindsWhatWasSaved) {
  const auto path = Save(10);
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, Path(10));
  std::vector<std::string> names;
  const std::vector<DirEntry> entries = fs_.List(*path).value();
  for (const DirEntry& entry : entries) names.push_back(entry.name);
  EXPECT_THAT(names, ElementsAre("config.toml", "manifest.json", "shard_00000_of_00001.safetensors",
                                 "state.json", "tensors.json"));
  const auto latest = store_.FindLatest(nullptr);
  ASSERT_TRUE(latest.ok()) << latest.status();
  EXPECT_EQ(latest->step, 10);
  EXPECT_EQ(SampleCheckpoint::Difference(fs_, latest->path, 10), "");
}

TEST_F(CheckpointStoreTest, AnEmptyRunHasNone) {
  EXPECT_THAT(Steps(), IsEmpty());
  EXPECT_EQ(store_.FindLatest(nullptr).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Message(store_.FindLatest(nullptr).status()),
            "there is no checkpoint in '" + folder_ + "'");
  EXPECT_EQ(Message(store_.Find(3).status()),
            "there is no checkpoint of step 3 in '" + folder_ + "'; there is none");
}

TEST_F(CheckpointStoreTest, LatestIsTheHighestStepNotTheLastName) {
  SaveAll({99999999, 100000000, 5});
  EXPECT_THAT(Steps(), ElementsAre(5, 99999999, 100000000));
  EXPECT_EQ(store_.FindLatest(nullptr)->step, 100000000);
}

TEST_F(CheckpointStoreTest, FindsAStepAndTellsWhichThereAre) {
  SaveAll({10, 20, 30});
  EXPECT_EQ(store_.Find(20)->path, Path(20));
  const absl::Status status = store_.Find(25).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status),
              HasSubstr("no checkpoint of step 25 in '" + folder_ + "'; there is 10, 20, 30"));
}

TEST_F(CheckpointStoreTest, NothingElseInTheFolderIsACheckpoint) {
  SaveAll({10});
  ASSERT_TRUE(fs_.MakeDirectories(JoinPath(folder_, "notes")).ok());
  ASSERT_TRUE(fs_.MakeDirectories(JoinPath(folder_, "step_20")).ok());
  ASSERT_TRUE(WriteTextSynced(fs_, JoinPath(folder_, "step_00000030"), "a file").ok());
  EXPECT_THAT(Steps(), ElementsAre(10));
  SaveAll({40}, {2, 0});
  EXPECT_TRUE(fs_.Exists(JoinPath(folder_, "notes")).value()) << "what is not ours stays";
}

TEST_F(CheckpointStoreTest, KeepsTheNewest) {
  SaveAll({10, 20, 30, 40}, {2, 0});
  EXPECT_THAT(Steps(), ElementsAre(30, 40));
  EXPECT_EQ(fs_.List(folder_)->size(), 2U) << "removal leaves nothing behind";
}

TEST_F(CheckpointStoreTest, KeepsMultiplesForever) {
  SaveAll({0, 10, 20, 30, 40, 50, 60}, {2, 30});
  EXPECT_THAT(Steps(), ElementsAre(0, 30, 50, 60));
}

TEST_F(CheckpointStoreTest, ADamagedOneDoesNotCountAsKept) {
  SaveAll({10, 20, 30});
  ASSERT_TRUE(fs_.RemoveFile(JoinPath(Path(30), kStateName)).ok());
  SaveAll({40}, {2, 0});
  EXPECT_THAT(Steps(), ElementsAre(20, 30, 40)) << "20 and 40 are the two that are whole";
  SaveAll({50}, {2, 0});
  EXPECT_THAT(Steps(), ElementsAre(40, 50));
}

TEST_F(CheckpointStoreTest, WhatWasSavedIsNeverRemovedForHigherSteps) {
  SaveAll({10, 20, 30});  // the run is then resumed from 10
  SaveAll({12}, {2, 0});
  EXPECT_THAT(Steps(), ElementsAre(10, 12, 20, 30));
}

TEST_F(CheckpointStoreTest, AFailureToRemoveIsAWarning) {
  SaveAll({10, 20});
  FaultyFileSystem counting(FileSystem::Posix(), JoinPath(root_.path(), "scratch2"));
  SampleCheckpoint sample(30);
  // The last call of the save is the removal of 10.
  ASSERT_TRUE(
      CheckpointStore(counting, folder_).Save(*MakeWorldOfOne(), sample.Contents(), {2, 0}).ok());
  std::filesystem::remove_all(Path(30));
  SaveAll({10});
  FaultyFileSystem faulty(FileSystem::Posix(), JoinPath(root_.path(), "scratch3"));
  faulty.FailAt(counting.calls(), absl::PermissionDeniedError("cannot remove (made up)"));
  std::string warning;
  ASSERT_TRUE(CheckpointStore(faulty, folder_)
                  .Save(*MakeWorldOfOne(), sample.Contents(), {2, 0}, &warning)
                  .ok());
  EXPECT_EQ(warning, "an old checkpoint could not be removed: cannot remove (made up)");
  EXPECT_THAT(Steps(), ElementsAre(20, 30));
}

TEST_F(CheckpointStoreTest, AStepThatIsCommittedStays) {
  SaveAll({10});
  SampleCheckpoint other(99);
  CheckpointContents contents = other.Contents();
  contents.step = 10;
  const auto saved = store_.Save(*MakeWorldOfOne(), contents, {2, 0});
  ASSERT_TRUE(saved.ok()) << saved.status();
  EXPECT_EQ(SampleCheckpoint::Difference(fs_, Path(10), 10), "") << "the first one";
}

TEST_F(CheckpointStoreTest, AStepThatIsDamagedIsReplaced) {
  SaveAll({10});
  Damage(10);
  EXPECT_FALSE(store_.FindLatest(nullptr).ok());
  SaveAll({10});
  EXPECT_EQ(SampleCheckpoint::Difference(fs_, Path(10), 10), "");
}

TEST_F(CheckpointStoreTest, WhatAnInterruptedSaveLeftIsRemoved) {
  SaveAll({10});
  const std::string stale = JoinPath(folder_, "tmp_step_00000020");
  ASSERT_TRUE(fs_.MakeDirectories(stale).ok());
  ASSERT_TRUE(WriteTextSynced(fs_, JoinPath(stale, "shard"), "half").ok());
  EXPECT_EQ(store_.FindLatest(nullptr)->step, 10) << "never looked at";
  SaveAll({30});
  EXPECT_FALSE(fs_.Exists(stale).value());
}

TEST_F(CheckpointStoreTest, FallsBackBehindDamagedOnesAndNamesThem) {
  SaveAll({10, 20, 30, 40});
  Damage(40);
  ASSERT_TRUE(fs_.RemoveFile(JoinPath(Path(30), kManifestName)).ok());
  std::vector<DamagedCheckpoint> damaged;
  const auto latest = store_.FindLatest(&damaged);
  ASSERT_TRUE(latest.ok()) << latest.status();
  EXPECT_EQ(latest->step, 20);
  ASSERT_EQ(damaged.size(), 2U);
  EXPECT_EQ(damaged[0].info.step, 40);
  EXPECT_THAT(Message(damaged[0].reason),
              AllOf(HasSubstr(JoinPath(Path(40), kStateName)), HasSubstr("is damaged")));
  EXPECT_EQ(damaged[1].info.step, 30);
  EXPECT_THAT(Message(damaged[1].reason), HasSubstr("never committed"));
  EXPECT_FALSE(store_.Find(40).ok()) << "asked for by number it is refused";
}

TEST_F(CheckpointStoreTest, SaysWhenAllAreDamaged) {
  SaveAll({10, 20});
  Damage(10);
  Damage(20);
  const absl::Status status = store_.FindLatest(nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status),
              AllOf(HasSubstr("none of the 2 checkpoints in '" + folder_ + "' can be used"),
                    HasSubstr("the newest: '" + Path(20) + "/state.json' is damaged")));
}

TEST_F(CheckpointStoreTest, ARenamedCheckpointIsNotAnotherStep) {
  SaveAll({10});
  std::filesystem::rename(Path(10), Path(70));
  std::vector<DamagedCheckpoint> damaged;
  EXPECT_FALSE(store_.FindLatest(&damaged).ok());
  ASSERT_EQ(damaged.size(), 1U);
  EXPECT_THAT(Message(damaged[0].reason),
              HasSubstr(absl::StrCat("'", Path(70), "' holds step 10: it was renamed")));
}

TEST_F(CheckpointStoreTest, ACheckpointFromTheFutureIsNeitherReadNorReplacedNorRemoved) {
  SaveAll({10, 20, 30});
  MakeOfVersion(3, 30);
  for (const absl::Status& status :
       {store_.FindLatest(nullptr).status(), store_.Find(30).status(), Save(30).status(),
        CheckpointReader::Open(fs_, Path(30)).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(Message(status),
                AllOf(HasSubstr(absl::StrCat("'", Path(30), "' was written by entrain ")),
                      HasSubstr("in checkpoint version 3"), HasSubstr("reads version 2 only")));
  }
  SaveAll({40, 50}, {2, 0});
  EXPECT_THAT(Steps(), ElementsAre(30, 40, 50));
}

// Made up, as root may read everything.
TEST_F(CheckpointStoreTest, WhatMayNotBeReadIsNeitherPassedOverNorReplaced) {
  SaveAll({10, 20});
  const absl::Status denied = absl::PermissionDeniedError("cannot open it (made up)");
  const int64_t before = fs_.calls();
  ASSERT_EQ(store_.FindLatest(nullptr)->step, 20);
  const int64_t calls = fs_.calls() - before;
  for (int64_t call = 2; call <= calls; ++call) {  // call 1 lists the folder
    fs_.FailAt(fs_.calls() + call, denied);
    std::vector<DamagedCheckpoint> damaged;
    EXPECT_EQ(store_.FindLatest(&damaged).status(), denied) << call;
    EXPECT_THAT(damaged, IsEmpty());
  }
  // A save of the same step makes the folder sure and looks for temporary ones and for the step before it verifies.
  constexpr int64_t kVerifies = 4;
  fs_.FailAt(fs_.calls() + kVerifies, denied);
  EXPECT_EQ(Save(20).status(), denied);
  EXPECT_EQ(store_.FindLatest(nullptr)->step, 20);
}

// Not damaged either: to fall back behind it in silence would throw training away.
TEST_F(CheckpointStoreTest, ACheckpointOfVersion1IsRefusedWithTheReason) {
  SaveAll({10, 20, 30});
  MakeOfVersion(1, 30);
  for (const absl::Status& status : {store_.FindLatest(nullptr).status(), Save(30).status(),
                                     CheckpointReader::Open(fs_, Path(30)).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(Message(status), AllOf(HasSubstr("in checkpoint version 1; entrain "),
                                       HasSubstr("reads version 2 only: it is from before")));
  }
}

TEST_F(CheckpointStoreTest, AManifestOfSomethingElseIsNoCheckpoint) {
  SaveAll({10});
  ASSERT_TRUE(CommitManifest(fs_, Path(10), {}).ok());
  EXPECT_THAT(Message(store_.Find(10).status()),
              HasSubstr("is not a checkpoint: its manifest has no step"));
}

TEST_F(CheckpointStoreTest, SpaceIsCheckedBeforeAnythingIsWritten) {
  SaveAll({10});
  SampleCheckpoint sample(20, /*width=*/600);
  fs_.PretendFreeSpace(2 << 20);
  const absl::Status status = store_.Save(*MakeWorldOfOne(), sample.Contents(), {2, 0}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status),
              HasSubstr("no space for step_00000020 in '" + folder_ +
                        "': it needs 2.8 MiB, 2.0 MiB are free: free some, or put"));
  EXPECT_THAT(Steps(), ElementsAre(10));
  EXPECT_EQ(fs_.List(folder_)->size(), 1U);
}

TEST_F(CheckpointStoreTest, TheSpaceAskedForIsEnough) {
  SampleCheckpoint sample(20, /*width=*/100);
  const CheckpointContents contents = sample.Contents();
  const std::string path = store_.Save(*MakeWorldOfOne(), contents, {2, 0}).value();
  int64_t written = 0;
  const std::vector<DirEntry> entries = fs_.List(path).value();
  for (const DirEntry& entry : entries) written += fs_.FileSize(JoinPath(path, entry.name)).value();
  const TensorIndex index = GatherTensorIndex(*MakeWorldOfOne(), contents).value();
  EXPECT_GE(CheckpointBytes(index, contents), written);
  EXPECT_LE(CheckpointBytes(index, contents), written + (128 << 10));
}

TEST_F(CheckpointStoreTest, SavesWholeTensorsOnly) {
  SampleCheckpoint sample(10);
  CheckpointContents contents = sample.Contents();
  contents.tensors[0].box = TensorBox::Cut({4, 16}, 0, 0);
  const absl::Status status = store_.Save(*MakeWorldOfOne(), contents, {2, 0}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Message(status),
            "the ranks' tensors are not a checkpoint: tensor 'h.0.weight' of shape [8, 16]: its 1 "
            "pieces hold 64 of 128 elements");
  EXPECT_EQ(fs_.calls(), 0) << "the disk is not touched";
}

TEST_F(CheckpointStoreTest, NamesAFolderThatCannotBeMade) {
  ASSERT_TRUE(WriteTextSynced(fs_, JoinPath(root_.path(), "run"), "a file").ok());
  const absl::Status status = Save(10).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(Message(status),
              AllOf(HasSubstr(JoinPath(root_.path(), "run")), HasSubstr("Not a directory")));
}

using CheckpointStoreDeathTest = CheckpointStoreTest;

TEST_F(CheckpointStoreDeathTest, KeepsAtLeastTwo) {
  EXPECT_DEATH((void)Save(10, {1, 0}), "retention.keep");
}

TEST_F(CheckpointStoreDeathTest, ABoxLiesInItsTensor) {
  SampleCheckpoint sample(10);
  CheckpointContents contents = sample.Contents();
  contents.tensors[0].box.begin = {4, 0};
  EXPECT_DEATH((void)store_.Save(*MakeWorldOfOne(), contents, {2, 0}),
               "'h.0.weight': \\[4:12, 0:16\\] of \\[8, 16\\]");
  contents = sample.Contents();
  contents.tensors[0].view = {8, 3, 4};
  EXPECT_DEATH((void)store_.Save(*MakeWorldOfOne(), contents, {2, 0}),
               "'h.0.weight': \\[8, 16\\] viewed as \\[8, 3, 4\\]");
}

}  // namespace
}  // namespace entrain
