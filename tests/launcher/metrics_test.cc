#include "launcher/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <limits>
#include <nlohmann/json.hpp>

#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

StepMetrics AtStep(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 1.0 / 3.0;
  return metrics;
}

StepMetrics Complete() {
  StepMetrics metrics = AtStep(7);
  metrics.penalty = 0.1;
  metrics.total = 0.2;
  metrics.grad_norm = 1e-30;
  metrics.lr = 1e-3;
  metrics.tokens = 4096;
  metrics.seconds = 1.5;
  metrics.tokens_per_second = 2730.6666666666665;
  metrics.mfu = 0.375;
  metrics.skipped = true;
  metrics.entropy = EntropyMetrics{.mean = {{1.0, 2.0}},
                                   .min = {{0.0, 0.5}},
                                   .max = {{3.0, 4.0}},
                                   .std = {{0.25, 0.125}},
                                   .layer_mean = {1.5},
                                   .buckets = {0.0, 0.5, 0.5, 0.0}};
  metrics.threshold = HeadTable{{0.35, 0.36}};
  metrics.gate = HeadTable{{0.0, 1.0}};
  metrics.validation_loss = 4.125;
  metrics.times = StepTimes{.data = 1.0,
                            .forward = 2.0,
                            .entropy = 0.5,
                            .backward = 4.0,
                            .optimizer = 0.25,
                            .communication_exposed = 0.125,
                            .communication_hidden = 0.375,
                            .entropy_reduction = 0.0625,
                            .save = 8.0};
  return metrics;
}

TEST(MetricsLineTest, HasEveryFieldAtFullPrecision) {
  const std::string line = ToJsonLine(Complete());
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(json::parse(line),
            json::parse(R"({"step": 7, "loss": 0.3333333333333333, "penalty": 0.1, "total": 0.2,
                           "grad_norm": 1e-30, "lr": 0.001, "tokens": 4096, "seconds": 1.5,
                           "tokens_per_second": 2730.6666666666665, "mfu": 0.375, "skipped": true,
                           "validation_loss": 4.125, "buckets": [0.0, 0.5, 0.5, 0.0],
                           "layer_entropy": [1.5],
                           "head_entropy": {"mean": [[1.0, 2.0]], "min": [[0.0, 0.5]],
                                            "max": [[3.0, 4.0]], "std": [[0.25, 0.125]]},
                           "threshold": [[0.35, 0.36]], "gate": [[0.0, 1.0]],
                           "times": {"data": 1.0, "forward": 2.0, "entropy": 0.5, "backward": 4.0,
                                     "optimizer": 0.25, "communication_exposed": 0.125,
                                     "communication_hidden": 0.375, "entropy_reduction": 0.0625,
                                     "save": 8.0}})"));
}

TEST(MetricsLineTest, LeavesOutWhatIsAbsent) {
  const json record = json::parse(ToJsonLine(AtStep(1)));
  for (const char* name : {"mfu", "times", "skipped", "validation_loss", "buckets", "layer_entropy",
                           "head_entropy", "threshold", "gate", "nonfinite"}) {
    EXPECT_FALSE(record.contains(name)) << name;
  }
}

TEST(MetricsLineTest, WhatIsNotFiniteIsNullAndSaidSo) {
  StepMetrics metrics = AtStep(1);
  metrics.loss = kNan;
  metrics.grad_norm = std::numeric_limits<double>::infinity();
  const json record = json::parse(ToJsonLine(metrics));
  EXPECT_TRUE(record["loss"].is_null());
  EXPECT_TRUE(record["grad_norm"].is_null());
  EXPECT_EQ(record["nonfinite"], true);
}

TEST(MetricsLineTest, NanDeepInATableIsSeen) {
  StepMetrics metrics = Complete();
  metrics.entropy->max[0][1] = kNan;
  const json record = json::parse(ToJsonLine(metrics));
  EXPECT_TRUE(record["head_entropy"]["max"][0][1].is_null());
  EXPECT_EQ(record["nonfinite"], true);
}

TEST(EntropyMetricsTest, AreThoseOfTheStatistics) {
  // Rows 0 and 1 of one head, twice 0.5 of the other.
  EntropyStatistics statistics(1, 2);
  statistics.Set({2.0, 1.0, 1.0, 1.0, 0.5}, {0.0F, 1.0F, -0.5F, 0.5F});
  const EntropyMetrics metrics = EntropyMetricsOf(statistics, 2);
  EXPECT_EQ(metrics.mean, (HeadTable{{0.5, 0.5}}));
  EXPECT_EQ(metrics.min, (HeadTable{{0.0, 0.5}}));
  EXPECT_EQ(metrics.max, (HeadTable{{1.0, 0.5}}));
  EXPECT_EQ(metrics.std, (HeadTable{{0.5, 0.0}}));
  EXPECT_EQ(metrics.layer_mean, (std::vector<double>{0.5}));
  EXPECT_EQ(metrics.buckets, BucketShares(metrics.mean, 2));
}

class MetricsWriterTest : public ::testing::Test {
 protected:
  FileSystem& fs_ = FileSystem::Posix();
  TemporaryFolder folder_;
  std::string path_ = folder_.path() + "/metrics.jsonl";

  std::string Text() { return *fs_.ReadText(path_); }

  void Append(int64_t resume_step, const std::vector<int64_t>& steps) {
    absl::StatusOr<MetricsWriter> writer = MetricsWriter::Open(fs_, path_, resume_step);
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const int64_t step : steps) ASSERT_TRUE(writer->Append(AtStep(step)).ok());
  }

  std::vector<int64_t> Steps() {
    std::vector<int64_t> steps;
    const std::string text = Text();
    for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      steps.push_back(json::parse(text.substr(begin, end - begin))["step"]);
    }
    return steps;
  }
};

TEST_F(MetricsWriterTest, AppendsALineARecord) {
  Append(0, {1, 2, 3});
  EXPECT_EQ(Text(), ToJsonLine(AtStep(1)) + "\n" + ToJsonLine(AtStep(2)) + "\n" +
                        ToJsonLine(AtStep(3)) + "\n");
}

TEST_F(MetricsWriterTest, AResumedRunHasNoStepTwice) {
  Append(0, {10, 20, 30, 40});
  Append(20, {30, 40, 50});
  EXPECT_EQ(Steps(), (std::vector<int64_t>{10, 20, 30, 40, 50}));
}

TEST_F(MetricsWriterTest, AResumedRunThatLostNothingKeepsEverything) {
  Append(0, {10, 20});
  Append(25, {30});
  EXPECT_EQ(Steps(), (std::vector<int64_t>{10, 20, 30}));
}

TEST_F(MetricsWriterTest, AFreshStartBeginsAnew) {
  Append(0, {1, 2});
  Append(0, {1});
  EXPECT_EQ(Steps(), (std::vector<int64_t>{1}));
}

TEST_F(MetricsWriterTest, ATornLastLineIsRemoved) {
  Append(0, {1, 2});
  const std::string whole = Text();
  for (size_t torn = 1; torn < ToJsonLine(AtStep(3)).size() + 1; torn += 23) {
    ASSERT_TRUE(
        WriteTextAtomically(fs_, path_, whole + ToJsonLine(AtStep(3)).substr(0, torn)).ok());
    Append(5, {});
    ASSERT_EQ(Text(), whole) << torn;
  }
}

TEST_F(MetricsWriterTest, LinesThatAreNoRecordsAreRemoved) {
  const std::string good = ToJsonLine(AtStep(1)) + "\n";
  ASSERT_TRUE(WriteTextAtomically(fs_, path_,
                                  good + "\n{\"loss\": 1}\n{\"step\": \"x\"}\n[3]\nnoise\n" + good)
                  .ok());
  Append(5, {});
  EXPECT_EQ(Text(), good + good);
}

TEST_F(MetricsWriterTest, AnUnchangedFileIsNotReplaced) {
  Append(0, {1, 2});
  const auto before = std::filesystem::last_write_time(path_);
  std::filesystem::last_write_time(path_, before - std::chrono::hours(1));
  Append(2, {});
  EXPECT_EQ(std::filesystem::last_write_time(path_), before - std::chrono::hours(1));
}

TEST_F(MetricsWriterTest, AFolderThatIsNotThereIsNamed) {
  const absl::Status status =
      MetricsWriter::Open(fs_, folder_.path() + "/none/metrics.jsonl", 0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("/none/metrics.jsonl: cannot open to append"));
}

TEST_F(MetricsWriterTest, NoSpaceIsReportedAndLeavesWholeRecords) {
  absl::StatusOr<MetricsWriter> writer = MetricsWriter::Open(fs_, path_, 0);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->Append(AtStep(1)).ok());
  const std::string before = Text();
  // A limit on the file's size, in the middle of the next record, stands for a full disk.
  rlimit old_limit{};
  getrlimit(RLIMIT_FSIZE, &old_limit);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{before.size() + 20, old_limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const absl::Status status = writer->Append(AtStep(2));
  setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("metrics.jsonl: cannot append a record"));
  EXPECT_EQ(Text(), before);
  EXPECT_TRUE(writer->Append(AtStep(2)).ok());
  EXPECT_EQ(Steps(), (std::vector<int64_t>{1, 2}));
}

}  // namespace
}  // namespace entrain
