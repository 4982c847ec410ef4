#include "launcher/run_requests.h"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>

#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

class RunRequestsTest : public ::testing::Test {
 protected:
  RunRequestsTest() {
    options_.run_dir = folder_.path();
    options_.now = [this] { return now_; };
  }
  RunRequests Make() { return RunRequests(FileSystem::Posix(), options_); }
  void Touch(const std::string& name) { std::ofstream(JoinPath(folder_.path(), name)) << ""; }
  bool Exists(const std::string& name) {
    return *FileSystem::Posix().Exists(JoinPath(folder_.path(), name));
  }

  TemporaryFolder folder_;
  RunRequestOptions options_;
  double now_ = 1000.0;
};

TEST_F(RunRequestsTest, NothingIsAskedFor) {
  RunRequests requests = Make();
  const auto seen = requests.Look(100, 1e6, 1e6);
  EXPECT_EQ(seen.leave, 0);
  EXPECT_EQ(seen.save, 0);
}

TEST_F(RunRequestsTest, ASignal) {
  RunRequests requests = Make();
  raise(SIGUSR2);
  const auto seen = requests.Look(1, 0, 0);
  EXPECT_EQ(seen.leave, SIGUSR2);
  EXPECT_EQ(requests.Reason(seen.leave), "SIGUSR2");
}

TEST_F(RunRequestsTest, AStep) {
  options_.stop_at = 7;
  RunRequests requests = Make();
  EXPECT_EQ(requests.Look(6, 0, 0).leave, 0);
  EXPECT_EQ(requests.Reason(requests.Look(7, 0, 0).leave), "--stop-at 7");
  EXPECT_NE(requests.Look(8, 0, 0).leave, 0);  // resumed beyond it
}

TEST_F(RunRequestsTest, MinutesSinceTheStart) {
  options_.exit_after_minutes = 2.5;
  RunRequests requests = Make();
  now_ += 149.0;
  EXPECT_EQ(requests.Look(1, 0, 0).leave, 0);
  now_ += 1.0;
  EXPECT_EQ(requests.Reason(requests.Look(1, 0, 0).leave), "[run] exit_after_minutes = 2.5");
}

TEST_F(RunRequestsTest, TheEndOfTheJobLessWhatIsNeededTwice) {
  options_.job_end = 2000;
  options_.exit_margin_seconds = 100;
  RunRequests requests = Make();
  now_ = 1850.0;
  EXPECT_EQ(requests.Look(1, 0, 0).leave, 0);
  EXPECT_EQ(requests.Look(1, 10, 14).leave, 0);
  const auto seen = requests.Look(1, 10, 15);
  EXPECT_EQ(requests.Reason(seen.leave), "the end of the Slurm job is near (SLURM_JOB_END_TIME)");
  now_ = 1900.0;
  EXPECT_NE(requests.Look(1, 0, 0).leave, 0);
}

TEST_F(RunRequestsTest, SwitchFilesAreTakenAwayWhenTheyWereObeyed) {
  RunRequests requests = Make();
  Touch("SAVE");
  auto seen = requests.Look(1, 0, 0);
  EXPECT_EQ(seen.save, 1);
  EXPECT_EQ(seen.leave, 0);
  EXPECT_TRUE(requests.Done({}).ok());
  EXPECT_TRUE(Exists("SAVE"));  // asked for after the ranks had exchanged what they saw
  EXPECT_TRUE(requests.Done(seen).ok());
  EXPECT_FALSE(Exists("SAVE"));
  EXPECT_EQ(requests.Look(1, 0, 0).save, 0);

  Touch("STOP");
  seen = requests.Look(1, 0, 0);
  EXPECT_EQ(requests.Reason(seen.leave), "the file " + JoinPath(folder_.path(), "STOP"));
  EXPECT_TRUE(requests.Done(seen).ok());
  EXPECT_FALSE(Exists("STOP"));
}

TEST_F(RunRequestsTest, OneRankLooksForFiles) {
  Touch("STOP");
  const auto stop = RunRequests(FileSystem::Posix(), options_).Look(1, 0, 0);
  EXPECT_NE(stop.leave, 0);
  options_.watches_files = false;
  RunRequests other = Make();
  EXPECT_EQ(other.Look(1, 0, 0).leave, 0);
  EXPECT_TRUE(other.Done(stop).ok());  // as the first rank has told
  EXPECT_TRUE(Exists("STOP"));
}

TEST(SlurmJobEndTest, ReadsWhatSlurmWrites) {
  EXPECT_EQ(SlurmJobEnd("1767225600"), 1767225600);
  EXPECT_EQ(SlurmJobEnd(std::nullopt), std::nullopt);
  EXPECT_EQ(SlurmJobEnd(""), std::nullopt);
  EXPECT_EQ(SlurmJobEnd("0"), std::nullopt);
  EXPECT_EQ(SlurmJobEnd("4294967294"), std::nullopt);
  EXPECT_EQ(SlurmJobEnd("4294967295"), std::nullopt);
  EXPECT_EQ(SlurmJobEnd("soon"), std::nullopt);
}

}  // namespace
}  // namespace entrain
