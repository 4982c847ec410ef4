// Damage to one shard among several: it is named, the checkpoint is passed over, nothing of it is filled in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/checkpoint.h"
#include "parallel/checkpoint_folder.h"
#include "runtime/io/manifest.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/sample_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kRanks = 3;

class ShardDamageTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    FaultyFileSystem quick(fs_, JoinPath(root_.path(), "scratch"));  // does not wait for the disk
    for (const int64_t step : {10, 20}) {
      for (const auto& status : SaveSampleFromRanks(quick, folder_, kRanks, step, {2, 0})) {
        ASSERT_TRUE(status.ok()) << status;
      }
    }
    whole_ = Text(20, GetParam());
  }

  std::string Folder(int64_t step) const { return JoinPath(folder_, CheckpointName(step)); }
  std::string Path(int64_t step, int rank) const {
    return JoinPath(Folder(step), ShardName(rank, kRanks));
  }
  std::string Text(int64_t step, int rank) { return fs_.ReadText(Path(step, rank)).value(); }

  void Write(const std::string& path, const std::string& text) {
    auto file = fs_.Create(path);
    ASSERT_TRUE((*file)->Append(text.data(), static_cast<int64_t>(text.size())).ok());
    ASSERT_TRUE((*file)->Close().ok());
  }
  void Replace(const std::string& text) { Write(Path(20, GetParam()), text); }

  // Lists the files as they are now: only what they hold can tell.
  void CommitAgain() {
    Manifest manifest = ReadManifest(fs_, Folder(20)).value();
    for (ManifestFile& file : manifest.files) {
      const std::string text = fs_.ReadText(JoinPath(Folder(20), file.name)).value();
      file.bytes = static_cast<int64_t>(text.size());
      file.checksum = ChecksumOf(text.data(), file.bytes);
    }
    ASSERT_TRUE(CommitManifest(fs_, Folder(20), manifest).ok());
  }

  void ExpectNamedAndPassedOver(int rank, const std::string& what) {
    std::vector<DamagedCheckpoint> damaged;
    const auto latest = CheckpointStore(fs_, folder_).FindLatest(&damaged);
    ASSERT_TRUE(latest.ok()) << latest.status();
    EXPECT_EQ(latest->step, 10) << what;
    EXPECT_EQ(SampleCheckpoint::Difference(fs_, latest->path, 10), "");
    ASSERT_EQ(damaged.size(), 1U);
    EXPECT_THAT(std::string(damaged[0].reason.message()),
                AllOf(HasSubstr(Path(20, rank)), HasSubstr(what)));
    EXPECT_EQ(CheckpointReader::Open(fs_, Folder(20)).status(), damaged[0].reason);
  }

  TemporaryFolder root_{TemporaryFolder::FastPlace()};
  FileSystem& fs_ = FileSystem::Posix();
  std::string folder_ = JoinPath(root_.path(), "checkpoints");
  std::string whole_;
};

TEST_P(ShardDamageTest, Missing) {
  ASSERT_TRUE(fs_.RemoveFile(Path(20, GetParam())).ok());
  ExpectNamedAndPassedOver(GetParam(), "is missing");
}

TEST_P(ShardDamageTest, Truncated) {
  for (size_t size = 0; size < whole_.size(); size += 37) {
    Replace(whole_.substr(0, size));
    ExpectNamedAndPassedOver(GetParam(), "bytes, its manifest says");
    if (HasFailure()) return;
  }
}

TEST_P(ShardDamageTest, ABitFlipped) {
  for (size_t byte = 0; byte < whole_.size(); byte += 37) {
    std::string flipped = whole_;
    flipped[byte] = static_cast<char>(flipped[byte] ^ (1 << byte % 8));
    Replace(flipped);
    ExpectNamedAndPassedOver(GetParam(), "is damaged: ");
    if (HasFailure()) return;
  }
}

TEST_P(ShardDamageTest, OfAnotherCheckpoint) {
  Replace(Text(10, GetParam()));
  ExpectNamedAndPassedOver(GetParam(), "is damaged: ");
}

// Also when a manifest vouches for them: a shard tells which part of each tensor it holds.
TEST_P(ShardDamageTest, SwappedWithAnother) {
  const int other = (GetParam() + 1) % kRanks;
  Replace(Text(20, other));
  Write(Path(20, other), whole_);
  ExpectNamedAndPassedOver(std::min(GetParam(), other), "");
  CommitAgain();
  EXPECT_EQ(CheckpointStore(fs_, folder_).FindLatest(nullptr)->step, 20);
  const absl::Status opened = CheckpointReader::Open(fs_, Folder(20)).status();
  EXPECT_EQ(opened.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(opened.message()), HasSubstr("does not hold "));
}

TEST_P(ShardDamageTest, SeveralAtATimeTheFirstIsNamed) {
  for (int rank = GetParam(); rank < kRanks; ++rank) {
    std::string flipped = Text(20, rank);
    flipped.back() = static_cast<char>(flipped.back() ^ 1);
    Write(Path(20, rank), flipped);
  }
  ExpectNamedAndPassedOver(GetParam(), "is damaged: ");
}

// Ranks that verify only what they read find the damage when it concerns them, before anything is filled.
TEST_P(ShardDamageTest, IsFoundByWhoReadsIt) {
  std::string flipped = whole_;
  flipped.back() = static_cast<char>(flipped.back() ^ 1);
  Replace(flipped);
  const auto reader = CheckpointReader::Open(fs_, Folder(20), Verification::kWhatIsRead);
  ASSERT_TRUE(reader.ok()) << reader.status();
  for (int rank = 0; rank < kRanks; ++rank) {
    SampleCheckpoint sample(-1);
    std::vector<StateTensor> tensors = sample.ContentsOf(rank, kRanks).tensors;
    const float before = tensors[0].data[0];
    const absl::Status read = reader->Read(tensors, /*ignore_unread=*/true);
    EXPECT_EQ(read.ok(), rank != GetParam()) << read;
    if (read.ok()) continue;
    EXPECT_THAT(std::string(read.message()),
                AllOf(HasSubstr(Path(20, rank)), HasSubstr("is damaged: ")));
    EXPECT_EQ(std::memcmp(&before, tensors[0].data, sizeof(before)), 0) << "nothing is filled";
  }
}

// A list of tensors that does not make them up, under checksums that hold.
TEST_P(ShardDamageTest, AListThatDoesNotFitIsRefused) {
  using Change = std::function<void(TensorIndex&)>;
  const auto rank = static_cast<size_t>(GetParam());
  const std::pair<Change, const char*> cases[] = {
      {[&](auto& index) {
         auto& pieces = index.tensors[0].pieces;
         pieces.erase(pieces.begin() + GetParam());
       },
       "its 2 pieces hold"},
      {[&](auto& index) {
         auto& pieces = index.tensors[0].pieces;
         pieces.push_back(pieces[rank]);
       },
       "overlap"},
      {[](auto& index) { index.tensors.push_back(index.tensors[0]); }, "is listed twice"},
      {[&](auto& index) { index.tensors[0].pieces[rank].box.shape.back() += 1; }, ""},
  };
  const std::string path = JoinPath(Folder(20), kTensorIndexName);
  const TensorIndex index = ParseTensorIndex(fs_.ReadText(path).value()).value();
  for (const auto& [change, reason] : cases) {
    TensorIndex changed = index;
    change(changed);
    Write(path, FormatTensorIndex(changed));
    CommitAgain();
    const absl::Status opened = CheckpointReader::Open(fs_, Folder(20)).status();
    EXPECT_EQ(opened.code(), absl::StatusCode::kDataLoss) << reason;
    EXPECT_THAT(std::string(opened.message()),
                AllOf(HasSubstr("tensors.json': tensor 'h.0.weight'"), HasSubstr(reason)));
  }
}

INSTANTIATE_TEST_SUITE_P(Shards, ShardDamageTest, ::testing::Range(0, kRanks));

}  // namespace
}  // namespace entrain
