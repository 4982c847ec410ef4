#include "launcher/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <limits>

#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(HumanDurationTest, HasTwoUnits) {
  EXPECT_EQ(HumanDuration(0), "0s");
  EXPECT_EQ(HumanDuration(59.4), "59s");
  EXPECT_EQ(HumanDuration(59.6), "1m00s");
  EXPECT_EQ(HumanDuration(192), "3m12s");
  EXPECT_EQ(HumanDuration(3599.6), "1h00m");
  EXPECT_EQ(HumanDuration(3840), "1h04m");
  EXPECT_EQ(HumanDuration(86399), "1d00h");
  EXPECT_EQ(HumanDuration(51 * 3600.0), "2d03h");
  EXPECT_EQ(HumanDuration(-1), "?");
  EXPECT_EQ(HumanDuration(std::numeric_limits<double>::quiet_NaN()), "?");
  EXPECT_EQ(HumanDuration(std::numeric_limits<double>::infinity()), "?");
}

TEST(HumanCountTest, HasThreeDigits) {
  EXPECT_EQ(HumanCount(0), "0");
  EXPECT_EQ(HumanCount(7), "7");
  EXPECT_EQ(HumanCount(7.25), "7.25");
  EXPECT_EQ(HumanCount(54.26), "54.3");
  EXPECT_EQ(HumanCount(950), "950");
  EXPECT_EQ(HumanCount(999.6), "1.00k");
  EXPECT_EQ(HumanCount(12345), "12.3k");
  EXPECT_EQ(HumanCount(999499), "999k");
  EXPECT_EQ(HumanCount(4560000), "4.56M");
  EXPECT_EQ(HumanCount(1.2e9), "1.20G");
  EXPECT_EQ(HumanCount(std::numeric_limits<double>::infinity()), "?");
}

StepMetrics Metrics() {
  StepMetrics metrics;
  metrics.step = 120;
  metrics.loss = 4.12341;
  metrics.penalty = 0.01234;
  metrics.lr = 9.8e-4;
  metrics.tokens_per_second = 12345;
  return metrics;
}

TEST(ProgressLineTest, HasEverythingOfAStep) {
  StepMetrics metrics = Metrics();
  metrics.entropy = EntropyMetrics{.buckets = {0.03, 0.25, 0.60, 0.12}};
  metrics.mfu = 0.4123;
  EXPECT_EQ(
      ProgressLine(metrics, {.total_steps = 1000, .flops_per_token = 17e6, .on_gpu = true}, 192),
      "step  120/1000  loss 4.1234  penalty 0.0123  overload 12%  collapse 3%  lr 9.8e-04  "
      "12.3k tok/s  210 GFLOP/s  MFU 41.2%  ETA 3m12s");
}

TEST(ProgressLineTest, SaysOfAGpuThatItsPeakIsNotKnown) {
  EXPECT_THAT(ProgressLine(Metrics(), {.total_steps = 120, .on_gpu = true}, 0.0),
              HasSubstr("12.3k tok/s  MFU n/a  ETA"));
}

TEST(ProgressLineTest, LeavesOutWhatIsUnknown) {
  EXPECT_EQ(ProgressLine(Metrics(), {.total_steps = 120}, 0.0),
            "step 120/120  loss 4.1234  penalty 0.0123  lr 9.8e-04  12.3k tok/s  ETA 0s");
}

TEST(ProgressLineTest, SaysValidationAndSkippedUpdates) {
  StepMetrics metrics = Metrics();
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.validation_loss = 4.5;
  metrics.skipped = true;
  const std::string line = ProgressLine(metrics, {.total_steps = 1000}, 0.0);
  EXPECT_THAT(line, HasSubstr("loss nan"));
  EXPECT_THAT(line, HasSubstr("val 4.5000"));
  EXPECT_THAT(line, EndsWith("SKIPPED"));
}

TEST(ProgressBarTest, FillsItsColumns) {
  EXPECT_EQ(ProgressBar(0, 100, 60, 40), "[>               ] 0/100   0%  ETA 1m00s");
  EXPECT_EQ(ProgressBar(50, 100, 60, 40), "[=======>       ] 50/100  50%  ETA 1m00s");
  EXPECT_EQ(ProgressBar(100, 100, 0, 40), "[=================] 100/100 100%  ETA 0s");
  for (const int64_t step : {0, 1, 77, 99, 100, 200}) {
    EXPECT_LE(ProgressBar(step, 100, 60, 60).size(), 60U);
  }
}

TEST(ProgressBarTest, NeverSaysAllBeforeTheEnd) {
  EXPECT_THAT(ProgressBar(9999, 10000, 1, 60), HasSubstr(" 99%"));
  EXPECT_THAT(ProgressBar(0, 0, 1, 60), HasSubstr("100%"));
}

class ProgressOutputTest : public ::testing::Test {
 protected:
  ProgressOutputTest() : file_(std::fopen(path_.c_str(), "w")) {}
  ~ProgressOutputTest() override { std::fclose(file_); }

  ProgressOptions Options(std::optional<bool> terminal) const {
    return {.total_steps = 1000, .out = file_, .terminal = terminal};
  }
  std::string Written() const {
    std::fflush(file_);
    return *FileSystem::Posix().ReadText(path_);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.path() + "/out";
  std::FILE* file_;
};

TEST_F(ProgressOutputTest, AFileGetsLinesAlone) {
  {
    Progress progress(Options(std::nullopt));  // a file is no terminal
    progress.Step(119);
    progress.Log(Metrics());
    progress.Say("saved step 120");
  }
  const std::string text = Written();
  EXPECT_THAT(text, StartsWith("step  120/1000  loss 4.1234"));
  EXPECT_THAT(text, EndsWith("\nsaved step 120\n"));
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST_F(ProgressOutputTest, ATerminalGetsABarThatLinesPushDownAndTheEndRemoves) {
  Progress progress(Options(true));
  progress.Step(1);
  EXPECT_THAT(Written(), StartsWith("\r[>"));
  progress.Say("hello");
  EXPECT_THAT(Written(), HasSubstr("\r\x1b[Khello\n\r[>"));
  progress.Finish();
  EXPECT_THAT(Written(), EndsWith("\r\x1b[K"));
  const std::string end = Written();
  progress.Finish();
  EXPECT_EQ(Written(), end);
}

// A bar that is wider than the terminal would wrap, and leave half of itself behind at each redrawing.
TEST_F(ProgressOutputTest, TheBarIsAsWideAsTheTerminal) {
  const winsize size{.ws_row = 24, .ws_col = 50, .ws_xpixel = 0, .ws_ypixel = 0};
  int master = -1;
  int terminal = -1;
  if (openpty(&master, &terminal, nullptr, nullptr, &size) != 0)
    GTEST_SKIP() << "no terminals here";
  std::FILE* out = fdopen(terminal, "w");
  Progress(ProgressOptions{.total_steps = 1000, .out = out}).Step(1);
  std::fclose(out);
  std::string text(500, '\0');
  text.resize(static_cast<size_t>(read(master, text.data(), text.size())));
  close(master);
  EXPECT_EQ(text.find("\x1b[K"), 1 + 49U) << text;
}

TEST_F(ProgressOutputTest, TheBarIsNotRedrawnForEveryStep) {
  Progress progress(Options(true));
  for (int64_t step = 1; step <= 1000; ++step) progress.Step(step);
  const std::string text = Written();
  EXPECT_LT(std::count(text.begin(), text.end(), '\r'), 100);
}

}  // namespace
}  // namespace entrain
