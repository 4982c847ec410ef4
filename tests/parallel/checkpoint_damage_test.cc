// Every kind of damage to every file of a checkpoint: it is never loaded, it is named, and the one before it is found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "parallel/checkpoint.h"
#include "parallel/checkpoint_folder.h"
#include "parallel/comm/communicator_host.h"
#include "runtime/io/manifest.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/sample_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

class CheckpointDamageTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    FaultyFileSystem quick(fs_, JoinPath(root_.path(), "scratch"));  // does not wait for the disk
    CheckpointStore store(quick, folder_);
    for (const int64_t step : {10, 20}) {
      SampleCheckpoint sample(step);
      ASSERT_TRUE(store.Save(*MakeWorldOfOne(), sample.Contents(), {2, 0}).ok());
    }
    whole_ = fs_.ReadText(Path()).value();
  }

  std::string Path() const { return JoinPath(JoinPath(folder_, CheckpointName(20)), GetParam()); }

  void Replace(const std::string& text) {
    auto file = fs_.Create(Path());
    ASSERT_TRUE((*file)->Append(text.data(), static_cast<int64_t>(text.size())).ok());
    ASSERT_TRUE((*file)->Close().ok());
  }

  void ExpectNamedAndPassedOver(const std::string& what) {
    const CheckpointStore store(fs_, folder_);
    std::vector<DamagedCheckpoint> damaged;
    const auto latest = store.FindLatest(&damaged);
    ASSERT_TRUE(latest.ok()) << latest.status();
    ASSERT_EQ(latest->step, 10) << what;
    ASSERT_EQ(damaged.size(), 1U);
    EXPECT_EQ(damaged[0].info.step, 20);
    const std::string message(damaged[0].reason.message());
    ASSERT_THAT(message, HasSubstr(GetParam()));
    ASSERT_THAT(message, HasSubstr(what));
    // Opened by name it is refused with the same words.
    const CheckpointInfo info = damaged[0].info;
    ASSERT_EQ(std::string(CheckpointReader::Open(fs_, info.path).status().message()), message);
  }

  // Every size of a small file, 200 of a large one, the first and last 64 among them.
  std::vector<size_t> SomeSizes() const {
    std::vector<size_t> sizes;
    const size_t stride = std::max<size_t>(1, whole_.size() / 70);
    for (size_t size = 0; size < whole_.size(); ++size) {
      if (size < 64 || size + 64 >= whole_.size() || size % stride == 0) sizes.push_back(size);
    }
    return sizes;
  }

  TemporaryFolder root_{TemporaryFolder::FastPlace()};
  FileSystem& fs_ = FileSystem::Posix();
  std::string folder_ = JoinPath(root_.path(), "checkpoints");
  std::string whole_;
};

TEST_P(CheckpointDamageTest, TruncatedAnywhere) {
  const bool manifest = std::string(GetParam()) == kManifestName;
  for (const size_t size : SomeSizes()) {
    if (manifest && size + 1 == whole_.size()) continue;  // the newline after the JSON
    Replace(whole_.substr(0, size));
    ExpectNamedAndPassedOver(manifest
                                 ? "is damaged: it is not valid JSON"
                                 : "has " + std::to_string(size) + " bytes, its manifest says " +
                                       std::to_string(whole_.size()));
    if (HasFatalFailure()) return;
  }
}

TEST_P(CheckpointDamageTest, LongerThanItWas) {
  Replace(whole_ + "x");
  ExpectNamedAndPassedOver("");
}

TEST_P(CheckpointDamageTest, ABitFlippedAnywhere) {
  std::minstd_rand random(7);
  for (int i = 0; i < 300; ++i) {
    const size_t bit = random() % (whole_.size() * 8);
    SCOPED_TRACE(bit);
    std::string flipped = whole_;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    Replace(flipped);
    ExpectNamedAndPassedOver("is damaged: ");
    if (HasFatalFailure()) return;
  }
}

TEST_P(CheckpointDamageTest, ZeroedInside) {
  std::string zeroed = whole_;
  std::fill(zeroed.begin() + static_cast<std::ptrdiff_t>(whole_.size() / 2), zeroed.end(), '\0');
  Replace(zeroed);
  ExpectNamedAndPassedOver("is damaged: ");
}

TEST_P(CheckpointDamageTest, Missing) {
  ASSERT_TRUE(fs_.RemoveFile(Path()).ok());
  ExpectNamedAndPassedOver(std::string(GetParam()) == kManifestName ? "was never committed"
                                                                    : "is missing");
}

TEST_P(CheckpointDamageTest, WholeAgainItIsFoundAgain) {
  Replace("x");
  Replace(whole_);
  EXPECT_EQ(CheckpointStore(fs_, folder_).FindLatest(nullptr)->step, 20);
}

TEST_P(CheckpointDamageTest, TakenFromAnotherCheckpoint) {
  const std::string other =
      fs_.ReadText(JoinPath(JoinPath(folder_, CheckpointName(10)), GetParam())).value();
  Replace(other);
  std::vector<DamagedCheckpoint> damaged;
  const auto latest = CheckpointStore(fs_, folder_).FindLatest(&damaged);
  ASSERT_TRUE(latest.ok()) << latest.status();
  // A file that both have alike is not damaged by it.
  EXPECT_EQ(latest->step, other == whole_ ? 20 : 10);
  EXPECT_EQ(damaged.size(), other == whole_ ? 0U : 1U);
}

INSTANTIATE_TEST_SUITE_P(Files, CheckpointDamageTest,
                         ::testing::Values("shard_00000_of_00001.safetensors", "tensors.json",
                                           "state.json", "config.toml", "manifest.json"));

// A checkpoint that cannot be read is passed over too, and the reason is the system's.
TEST(CheckpointDamage, AnErrorOfTheDeviceIsNamed) {
  const TemporaryFolder root{TemporaryFolder::FastPlace()};
  const std::string folder = JoinPath(root.path(), "checkpoints");
  FaultyFileSystem faulty(FileSystem::Posix(), JoinPath(root.path(), "scratch"));
  CheckpointStore store(faulty, folder);
  for (const int64_t step : {10, 20}) {
    SampleCheckpoint sample(step);
    ASSERT_TRUE(store.Save(*MakeWorldOfOne(), sample.Contents(), {2, 0}).ok());
  }
  const int64_t before = faulty.calls();
  ASSERT_EQ(store.FindLatest(nullptr)->step, 20);
  const int64_t calls = faulty.calls() - before;
  for (int64_t call = 2; call <= calls; ++call) {  // call 1 lists the folder
    faulty.FailAt(faulty.calls() + call, absl::InternalError("input/output error (made up)"));
    std::vector<DamagedCheckpoint> damaged;
    const auto latest = store.FindLatest(&damaged);
    ASSERT_TRUE(latest.ok()) << latest.status();
    EXPECT_EQ(latest->step, 10);
    ASSERT_EQ(damaged.size(), 1U);
    EXPECT_THAT(std::string(damaged[0].reason.message()), HasSubstr("made up"));
  }
}

}  // namespace
}  // namespace entrain
