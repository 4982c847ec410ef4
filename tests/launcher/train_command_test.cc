// entrain train as its users start, stop and watch it: signals, steps that are not finite, older checkpoints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "parallel/checkpoint.h"
#include "runtime/io/manifest.h"
#include "tests/support/model_file_edit.h"
#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

ModelConfig VariantNamed(const std::string& name) {
  for (const Variant& variant : Variants()) {
    if (variant.name == name) return variant.config;
  }
  ADD_FAILURE() << "no variant " << name;
  return {};
}

std::vector<nlohmann::json> JsonLines(const std::string& path) {
  std::vector<nlohmann::json> records;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    // A line that is being written has no end yet.
    if (!file.eof()) records.push_back(nlohmann::json::parse(line));
  }
  return records;
}

class TrainCommandTest : public ::testing::Test {
 protected:
  TrainConfig Small(const std::string& variant) const {
    TrainConfig config = SmallRun(folder_.path(), VariantNamed(variant));
    config.logging.every = 1;
    return config;
  }

  ProcessResult Train(const TrainConfig& config, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"train", "--config", Write(config)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunEntrain(arguments);
  }

  std::string Write(const TrainConfig& config) const {
    return WriteConfig(folder_.path(), "train.toml", config);
  }

  std::string run() const { return folder_.path() + "/run"; }
  std::vector<nlohmann::json> Metrics() const { return JsonLines(run() + "/metrics.jsonl"); }
  nlohmann::json VerdictFile() const {
    std::ifstream file(run() + "/verdict.json");
    return nlohmann::json::parse(file);
  }

  // Waits until the run has logged `step`.
  void WaitForStep(int64_t step) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (std::chrono::steady_clock::now() < deadline) {
      const std::vector<nlohmann::json> records = Metrics();
      if (!records.empty() && records.back()["step"] >= step) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    FAIL() << "step " << step << " did not come within two minutes";
  }

  // A Hugging Face folder with the weights of the configuration's first step.
  std::string ExportedModel(TrainConfig config) const {
    config.run.dir = folder_.path() + "/seed";
    config.train.steps = 1;
    std::string exported = folder_.path() + "/hf";
    EXPECT_EQ(Train(config).code, 0);
    EXPECT_EQ(RunEntrain({"export", "--model", config.run.dir, "--output", exported}).code, 0);
    return exported;
  }

  TemporaryFolder folder_;
};

// ---- signals ----

class TrainSignalTest : public TrainCommandTest, public ::testing::WithParamInterface<int> {};

TEST_P(TrainSignalTest, SavesAndLeavesWith75ThenGoesOnToTheSameEnd) {
  TrainConfig config = Small("ereg");
  config.train.steps = 1000000;
  std::string command_line = Write(config);
  RunningProcess process({ENTRAIN_BINARY, "train", "--config", command_line});
  WaitForStep(3);
  process.Signal(GetParam());
  const ProcessResult stopped = process.Wait();
  ASSERT_EQ(stopped.code, 75) << stopped.error;

  const nlohmann::json verdict = VerdictFile();
  const int64_t step = verdict["step"];
  EXPECT_EQ(verdict["code"], 75);
  EXPECT_EQ(verdict["last_commit"], step);
  EXPECT_THAT(verdict["reason"], HasSubstr(GetParam() == SIGTERM   ? "SIGTERM"
                                           : GetParam() == SIGUSR1 ? "SIGUSR1"
                                                                   : "SIGUSR2"));

  // Two more steps here, and the same steps without a stop.
  const std::string end = std::to_string(step + 2);
  EXPECT_EQ(RunEntrain({"train", "--config", command_line, "--stop-at", end}).code, 75);
  config.run.dir = folder_.path() + "/whole";
  EXPECT_EQ(Train(config, {"--stop-at", end}).code, 75);
  const auto cut = CheckpointBytes(run(), step + 2);
  const auto whole = CheckpointBytes(config.run.dir, step + 2);
  ASSERT_EQ(cut.size(), whole.size());
  for (size_t i = 0; i < cut.size(); ++i) {
    EXPECT_TRUE(cut[i].first == "config.toml" || cut[i] == whole[i]) << cut[i].first;
  }
}

INSTANTIATE_TEST_SUITE_P(All, TrainSignalTest, ::testing::Values(SIGUSR1, SIGUSR2, SIGTERM),
                         [](const auto& info) {
                           return info.param == SIGTERM   ? "Term"
                                  : info.param == SIGUSR1 ? "Usr1"
                                                          : "Usr2";
                         });

TEST_F(TrainCommandTest, AKillLosesOnlyWhatWasNotSaved) {
  TrainConfig config = Small("ereg");
  config.train.steps = 1000000;
  config.checkpoint.every = 2;
  RunningProcess process({ENTRAIN_BINARY, "train", "--config", Write(config)});
  WaitForStep(5);
  process.Signal(SIGKILL);
  EXPECT_EQ(process.Wait().code, 128 + SIGKILL);
  config.train.steps = 1000;
  const ProcessResult resumed = Train(config, {"--resume", "must", "--dry-run"});
  EXPECT_EQ(resumed.code, 0) << resumed.error;
  EXPECT_THAT(resumed.output, HasSubstr("resuming " + run()));
}

// The verdict of the run before, "saved", is not that of one that was killed.
TEST_F(TrainCommandTest, AKilledRunLeavesNoVerdict) {
  TrainConfig config = Small("sm");
  config.train.steps = 1000000;
  ASSERT_EQ(Train(config, {"--stop-at", "2"}).code, 75);
  ASSERT_EQ(VerdictFile()["code"], 75);
  RunningProcess process({ENTRAIN_BINARY, "train", "--config", Write(config)});
  WaitForStep(3);
  process.Signal(SIGKILL);
  process.Wait();
  EXPECT_FALSE(std::filesystem::exists(run() + "/verdict.json"));
}

// As `ulimit -f` sets it: the system's answer to a write beyond it is a signal.
TEST_F(TrainCommandTest, AFileSizeLimitIsToldAndLosesNothing) {
  TrainConfig config = Small("sm");
  config.train.steps = 4;
  ASSERT_EQ(Train(config, {"--stop-at", "2"}).code, 75);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit limit{20000, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const ProcessResult full = Train(config);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(full.code, 1);
  EXPECT_THAT(full.error, HasSubstr("tmp_step_00000004/shard_00000_of_00001.safetensors"));
  EXPECT_THAT(full.error, HasSubstr("File too large"));
  EXPECT_EQ(VerdictFile()["last_commit"], 2);
  EXPECT_EQ(Train(config, {"--resume", "must"}).code, 0);
}

// ---- steps that are not finite ----

TEST_F(TrainCommandTest, BadStepsInARowStopTheRunWithStepLayerAndTensor) {
  TrainConfig config = Small("sm_ln_g");
  config.init_from = ExportedModel(config);
  SetModelFileElement(config.init_from, "transformer.h.1.mlp.c_fc.weight", 3,
                      std::numeric_limits<float>::quiet_NaN());
  config.train.max_bad_steps = 3;
  const ProcessResult result = Train(config);
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.error, HasSubstr("step 3"));
  EXPECT_THAT(result.error, HasSubstr("layer 1, parameter transformer.h.1.mlp.c_fc.weight"));
  EXPECT_THAT(result.error, HasSubstr("train.max_bad_steps = 3"));
  EXPECT_THAT(result.error, HasSubstr("There is no checkpoint"));
  EXPECT_EQ(std::count(result.error.begin(), result.error.end(), '\n'), 1) << result.error;
  const nlohmann::json verdict = VerdictFile();
  EXPECT_EQ(verdict["code"], 1);
  EXPECT_EQ(verdict["step"], 3);
  EXPECT_EQ(Metrics().size(), 3U);
}

TEST_F(TrainCommandTest, ALossThatRunsAwayNamesTheLayer) {
  TrainConfig config = Small("sm_g");
  config.optimizer.lr = 1e18;
  config.optimizer.min_lr = 0;
  config.optimizer.warmup_steps = 0;
  config.train.max_bad_steps = 2;
  const ProcessResult result = Train(config);
  EXPECT_EQ(result.code, 1) << result.error;
  EXPECT_THAT(result.error, HasSubstr("2 steps in a row were not finite"));
  EXPECT_THAT(result.error, HasSubstr("layer "));
}

// One token's embedding is not a number: only the step that meets the token is left out.
TEST_F(TrainCommandTest, OneBadStepIsSkippedCountedAndSurvived) {
  TrainConfig config = Small("untied_no_final_norm");
  config.data.shuffle = false;
  config.train.steps = 5;
  constexpr int32_t kBadToken = 42;
  const int64_t sequence = config.model.context;
  std::vector<int32_t> tokens(static_cast<size_t>(30 * sequence + 1));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i % 40);
  tokens[static_cast<size_t>((2 * config.train.global_batch + 1) * sequence + 4)] = kBadToken;
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), config.data.train);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Append(tokens.data(), static_cast<int64_t>(tokens.size())).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  config.init_from = ExportedModel(config);
  SetModelFileElement(config.init_from, "transformer.wte.weight", kBadToken * config.model.width,
                      std::numeric_limits<float>::infinity());
  const ProcessResult result = Train(config);
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.output, HasSubstr("step 3: not finite, update left out"));
  const std::vector<nlohmann::json> records = Metrics();
  ASSERT_EQ(records.size(), 5U);
  for (const nlohmann::json& record : records) {
    EXPECT_EQ(record["loss"].is_null(), record["step"] == 3) << record;
  }
  const ProcessResult inspect = RunEntrain({"inspect", run()});
  EXPECT_THAT(inspect.output, HasSubstr("4 updates, 1 skipped as not finite"));
}

// ---- recomputation ----

TEST_F(TrainCommandTest, RecomputingActivationsChangesNoBit) {
  for (const char* variant : {"ereg_previous_step", "sm_snorm", "pythia"}) {
    for (const Precision precision : {Precision::kFp32, Precision::kBf16}) {
      TrainConfig config = Small(variant);
      config.train.steps = 3;
      config.train.precision = precision;
      config.run.dir =
          absl::StrCat(folder_.path(), "/stored_", variant, static_cast<int>(precision));
      ASSERT_EQ(Train(config).code, 0);
      const auto stored = CheckpointBytes(config.run.dir, 3);
      config.train.recompute = true;
      config.run.dir += "_not";
      ASSERT_EQ(Train(config).code, 0);
      const auto recomputed = CheckpointBytes(config.run.dir, 3);
      ASSERT_EQ(stored.size(), recomputed.size());
      for (size_t i = 0; i < stored.size(); ++i) {
        EXPECT_TRUE(stored[i].first == "config.toml" || stored[i] == recomputed[i])
            << variant << " " << stored[i].first;
      }
    }
  }
}

// ---- logits ----

// A training step's losses come from rounded logits then, validation's do not. With this vocabulary validation takes more memory than
// a step.
TEST_F(TrainCommandTest, LogitsInBf16ChangeTrainingALittleAndValidationNotAtAll) {
  TrainConfig config = Small("sm_ln_g");
  config.train.steps = 4;
  config.train.precision = Precision::kBf16;
  config.model.vocab = 6000;
  config.data.validation = config.data.train;
  config.validation = {.every = 1, .batches = 1};
  config.optimizer.lr = 0.0;  // the same weights at every step
  const auto run_with = [&](Precision logits) {
    config.train.logits = logits;
    config.run.dir = absl::StrCat(folder_.path(), "/", std::string(kPrecisionNames.Name(logits)));
    const ProcessResult result = Train(config);
    EXPECT_EQ(result.code, 0) << result.error;
    EXPECT_EQ(result.output.find("bf16, logits too") != std::string::npos,
              logits == Precision::kBf16);
    return JsonLines(config.run.dir + "/metrics.jsonl");
  };
  const auto fine = run_with(Precision::kFp32), rounded = run_with(Precision::kBf16);
  ASSERT_EQ(fine.size(), rounded.size());
  int compared = 0;
  for (size_t i = 0; i < fine.size(); ++i) {
    EXPECT_EQ(fine[i].value("validation_loss", 0.0), rounded[i].value("validation_loss", 0.0));
    if (!fine[i].contains("loss")) continue;
    EXPECT_NE(fine[i]["loss"], rounded[i]["loss"]);
    EXPECT_NEAR(fine[i]["loss"], rounded[i]["loss"], 1e-3);
    ++compared;
  }
  EXPECT_EQ(compared, 4);
}

// ---- older checkpoints ----

TEST_F(TrainCommandTest, ResumingAnOlderStepRepeatsTheSameCourse) {
  TrainConfig config = Small("ereg_previous_step");
  config.train.steps = 8;
  config.checkpoint.every = 2;
  config.checkpoint.keep = 4;
  ASSERT_EQ(Train(config).code, 0);
  const auto first = CheckpointBytes(run(), 8);
  const ProcessResult again = Train(config, {"--resume", "4"});
  ASSERT_EQ(again.code, 0) << again.error;
  EXPECT_THAT(again.output, HasSubstr("superseded_step_00000008"));
  EXPECT_EQ(CheckpointBytes(run(), 8), first);
  const std::vector<nlohmann::json> records = Metrics();
  ASSERT_EQ(records.size(), 8U);
  for (size_t i = 0; i < records.size(); ++i) EXPECT_EQ(records[i]["step"], i + 1);
}

TEST_F(TrainCommandTest, AFinishedRunHasNothingLeftToDo) {
  TrainConfig config = Small("sm");
  config.train.steps = 2;
  ASSERT_EQ(Train(config).code, 0);
  const auto before = CheckpointBytes(run(), 2);
  const ProcessResult again = Train(config);
  EXPECT_EQ(again.code, 0) << again.error;
  EXPECT_THAT(again.output, HasSubstr("finished 2 steps"));
  EXPECT_EQ(CheckpointBytes(run(), 2), before);
}

// As an H100 would have left it, and as a program from before anything was recorded.
TEST_F(TrainCommandTest, ResumingTellsThatSomethingElseComputedTheCheckpoint) {
  TrainConfig config = Small("sm");
  config.train.steps = 4;
  ASSERT_EQ(Train(config, {"--stop-at", "2"}).code, 75);
  const std::string folder = run() + "/checkpoints/" + CheckpointName(2);
  Manifest manifest = ReadManifest(FileSystem::Posix(), folder).value();
  auto extra = nlohmann::json::parse(manifest.extra);
  EXPECT_THAT(std::string(extra["computed_by"]["device"]), HasSubstr("thread"));
  EXPECT_THAT(std::string(extra["computed_by"]["libraries"]), HasSubstr("oneDNN"));
  extra["computed_by"]["device"] = "NVIDIA H100 80GB HBM3, 79 GiB, sm_90";
  manifest.extra = extra.dump();
  ASSERT_TRUE(CommitManifest(FileSystem::Posix(), folder, manifest).ok());
  EXPECT_THAT(
      Train(config, {"--resume", "2", "--stop-at", "3"}).output,
      ContainsRegex(
          "note +computed otherwise than the checkpoint: device NVIDIA H100 80GB HBM3, 79 GiB, "
          "sm_90 -> [^;]*threads?[^;]*\\. From here on last bits may differ"));
  extra.erase("computed_by");
  manifest.extra = extra.dump();
  ASSERT_TRUE(CommitManifest(FileSystem::Posix(), folder, manifest).ok());
  const ProcessResult older = Train(config, {"--resume", "2"});
  EXPECT_EQ(older.code, 0) << older.error;
  EXPECT_THAT(older.output, Not(HasSubstr("computed otherwise")));
}

TEST_F(TrainCommandTest, ResumingTellsWhatChangedAndNothingElse) {
  TrainConfig config = Small("sm_ln_g");
  config.train.steps = 4;
  config.init_from = ExportedModel(config);
  ASSERT_EQ(Train(config, {"--stop-at", "2"}).code, 75);
  const ProcessResult same = Train(config, {"--stop-at", "3"});
  EXPECT_THAT(same.output, HasSubstr("resuming " + run()));
  EXPECT_THAT(same.output, Not(HasSubstr("changed since the checkpoint")));
  EXPECT_THAT(same.output, Not(HasSubstr("computed otherwise")));
  config.optimizer.clip = 0.5;
  EXPECT_THAT(Train(config).output, HasSubstr("checkpoint: optimizer.clip 1.0 -> 0.5\n"));
}

TEST_F(TrainCommandTest, AskedForFewerStepsThanThereAreItHasFinished) {
  TrainConfig config = Small("sm");
  config.train.steps = 4;
  ASSERT_EQ(Train(config).code, 0);
  config.train.steps = 2;
  const ProcessResult again =
      RunProcess({"/usr/bin/timeout", "60", ENTRAIN_BINARY, "train", "--config", Write(config)});
  EXPECT_EQ(again.code, 0) << again.error;
  EXPECT_THAT(again.output, HasSubstr("finished 4 steps"));
  EXPECT_EQ(Metrics().size(), 4U);
}

TEST_F(TrainCommandTest, ASecondRunInTheSameFolderIsRefused) {
  TrainConfig config = Small("sm");
  config.train.steps = 1000000;
  RunningProcess process({ENTRAIN_BINARY, "train", "--config", Write(config)});
  WaitForStep(1);
  const ProcessResult second = Train(config);
  EXPECT_NE(second.code, 0);
  EXPECT_FALSE(std::filesystem::exists(run() + "/verdict.json")) << "it is the first one's";
  EXPECT_THAT(second.error, HasSubstr(run()));
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait().code, 75);
}

}  // namespace
}  // namespace entrain
