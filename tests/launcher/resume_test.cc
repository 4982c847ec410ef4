// Train 40 steps = train 20, restart, train 20: every byte of the checkpoint, for every variant, fp32 and bf16, one and two
// threads.
#include <gtest/gtest.h>

#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

void ExpectSameCheckpoint(const std::string& a, const std::string& b, int64_t step) {
  const auto files_a = CheckpointBytes(a, step);
  const auto files_b = CheckpointBytes(b, step);
  ASSERT_EQ(files_a.size(), files_b.size());
  for (size_t i = 0; i < files_a.size(); ++i) {
    // The configuration names the run's own folder.
    if (files_a[i].first == "config.toml") continue;
    EXPECT_EQ(files_a[i].first, files_b[i].first);
    EXPECT_TRUE(files_a[i].second == files_b[i].second) << files_a[i].first << " differs";
  }
}

class ResumeTest : public ::testing::TestWithParam<Variant> {
 protected:
  void Check(Precision precision, int threads) {
    TemporaryFolder folder(TemporaryFolder::FastPlace());
    TrainConfig config = SmallRun(folder.path(), GetParam().config);
    config.train.precision = precision;
    config.train.threads = threads;
    const std::string path = WriteConfig(folder.path(), "train.toml", config);
    const std::string whole = folder.path() + "/whole";
    const std::string cut = folder.path() + "/cut";
    const ProcessResult once = RunEntrain({"train", "--config", path, "--set", "run.dir=" + whole});
    ASSERT_EQ(once.code, 0) << once.error;
    const ProcessResult first =
        RunEntrain({"train", "--config", path, "--set", "run.dir=" + cut, "--stop-at", "20"});
    ASSERT_EQ(first.code, 75) << first.error;
    const ProcessResult second =
        RunEntrain({"train", "--config", path, "--set", "run.dir=" + cut, "--resume", "must"});
    ASSERT_EQ(second.code, 0) << second.error;
    ExpectSameCheckpoint(whole, cut, 40);
  }
};

TEST_P(ResumeTest, Fp32OneThread) { Check(Precision::kFp32, 1); }
TEST_P(ResumeTest, Fp32TwoThreads) { Check(Precision::kFp32, 2); }
TEST_P(ResumeTest, Bf16OneThread) { Check(Precision::kBf16, 1); }
TEST_P(ResumeTest, Bf16TwoThreads) { Check(Precision::kBf16, 2); }

INSTANTIATE_TEST_SUITE_P(All, ResumeTest, ::testing::ValuesIn(Variants()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace entrain
