// Whole runs on a GPU: to the bit again, on from a CPU's checkpoint and back, several ranks on one GPU, too little memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "tests/support/train_ranks.h"

namespace entrain {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class DeviceSwitchTest : public TrainRanksTest {
 protected:
  DeviceSwitchTest() {
    config_.train.steps = 8;
    config_.checkpoint.every = 4;
    config_.train.device = DeviceChoice::kCuda;
  }

  // The program whose backend has the GPU; `launcher` before it.
  std::vector<std::string> Command(std::vector<std::string> launcher,
                                   const std::vector<std::string>& more) const {
    launcher.insert(launcher.end(), {std::getenv("ENTRAIN_TEST_BINARY"), "train", "--config",
                                     WriteConfig(folder_.path(), "train.toml", config_)});
    launcher.insert(launcher.end(), more.begin(), more.end());
    return launcher;
  }
  std::vector<double> Losses(std::vector<std::string> launcher = {},
                             const std::vector<std::string>& more = {}, int code = 0) {
    const ProcessResult result = RunProcess(Command(std::move(launcher), more));
    EXPECT_EQ(result.code, code) << result.error << result.output;
    output_ = result.output;
    std::vector<double> losses;
    for (const auto& record : Metrics()) losses.push_back(record["loss"]);
    return losses;
  }
  void ExpectNear(const std::vector<double>& a, const std::vector<double>& b) const {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5 * b[i]) << "step " << i + 1;
  }

  using Files = std::vector<std::pair<std::string, std::string>>;
  static void ExpectSameState(const Files& a, const Files& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].first, b[i].first);
      if (a[i].first == "config.toml") continue;  // names the run's folder
      EXPECT_TRUE(a[i].second == b[i].second) << a[i].first;
    }
  }

  static double NumberBehind(const std::string& text, const std::string& word) {
    const size_t at = text.find(word);
    EXPECT_NE(at, std::string::npos) << word << " is not in " << text;
    return at == std::string::npos ? 0.0 : std::atof(text.c_str() + at + word.size());
  }

  std::string output_;
};

TEST_F(DeviceSwitchTest, ARunGivesTheSameBitsAgainAndWhenItIsCut) {
  struct Precisions {
    Precision products;
    Precision logits;
  };
  for (const auto& [precision, logits] : {Precisions{Precision::kFp32, Precision::kFp32},
                                          {Precision::kBf16, Precision::kFp32},
                                          {Precision::kBf16, Precision::kBf16}}) {
    config_.train.precision = precision;
    config_.train.logits = logits;
    const std::string name = absl::StrCat(std::string(kPrecisionNames.Name(precision)), "_",
                                          std::string(kPrecisionNames.Name(logits)));
    RunIn("once_" + name);
    const std::vector<double> once = Losses();
    ASSERT_EQ(once.size(), 8U);
    const auto bytes = CheckpointBytes(config_.run.dir, 8);
    RunIn("cut_" + name);
    Losses({}, {"--stop-at", "5"}, 75);
    EXPECT_EQ(Losses({}, {"--resume", "must"}), once);
    ExpectSameState(bytes, CheckpointBytes(config_.run.dir, 8));
  }
}

// With micro-steps, validation in between, λ that begins later and rises, and with the previous step's entropies.
TEST_F(DeviceSwitchTest, AStepAsOneGraphGivesTheSameBitsAsItsOps) {
  config_.train.micro_batch = 2;
  config_.data.validation = config_.data.train;
  config_.validation = {.every = 3, .batches = 1};
  config_.model.entropy_regularizer->start_step = 2;
  config_.model.entropy_regularizer->warmup_steps = 3;
  for (const Statistics statistics : {Statistics::kMicroStep, Statistics::kPreviousStep}) {
    config_.model.entropy_regularizer->statistics = statistics;
    // Its power iteration is carried on from step to step.
    config_.model.ffn_weight_norm =
        statistics == Statistics::kPreviousStep ? WeightNorm::kSpectral : WeightNorm::kNone;
    const std::string name(kStatisticsNames.Name(statistics));
    config_.train.cuda_graph = OnOff::kOff;
    RunIn("ops_" + name);
    const std::vector<double> ops = Losses();
    EXPECT_THAT(output_, HasSubstr("no CUDA graph: train.cuda_graph = off"));
    const auto bytes = CheckpointBytes(config_.run.dir, 8);
    config_.train.cuda_graph = OnOff::kOn;
    RunIn("graph_" + name);
    EXPECT_EQ(Losses(), ops);
    EXPECT_THAT(output_, HasSubstr("one CUDA graph"));
    ExpectSameState(bytes, CheckpointBytes(config_.run.dir, 8));
  }
}

TEST_F(DeviceSwitchTest, AGraphThatCannotBeIsRefused) {
  config_.train.cuda_graph = OnOff::kOn;
  const ProcessResult result = RunProcess(Command(Mpirun(2, {"--bind-to", "none"}), {}));
  EXPECT_NE(result.code, 0);
  EXPECT_THAT(result.error, HasSubstr("train.cuda_graph = on: a step cannot be one CUDA graph"));
  EXPECT_THAT(result.error, HasSubstr("ranks exchange within a step"));
}

TEST_F(DeviceSwitchTest, ACheckpointOfOneDeviceContinuesOnTheOther) {
  config_.train.device = DeviceChoice::kCpu;
  RunIn("cpu");
  const std::vector<double> cpu = Losses();
  EXPECT_THAT(output_, Not(HasSubstr("MFU")));
  RunIn("back_and_forth");
  Losses({}, {"--stop-at", "3"}, 75);
  config_.train.device = DeviceChoice::kCuda;
  Losses({}, {"--stop-at", "6", "--resume", "must"}, 75);
  EXPECT_THAT(output_, HasSubstr("sm_"));
  EXPECT_THAT(output_, HasSubstr("GFLOP/s  MFU "));
  EXPECT_THAT(output_, HasSubstr("computed otherwise than the checkpoint: device "));
  const ProcessResult inspect =
      RunProcess({std::getenv("ENTRAIN_TEST_BINARY"), "inspect", config_.run.dir});
  EXPECT_THAT(inspect.output, ContainsRegex("device        .*sm_"));
  EXPECT_THAT(inspect.output, ContainsRegex("libraries     cuBLASLt [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  config_.train.device = DeviceChoice::kCpu;
  ExpectNear(Losses({}, {"--resume", "must"}), cpu);
}

TEST_F(DeviceSwitchTest, RanksShareAGpu) {
  RunIn("one");
  const std::vector<double> one = Losses();
  struct Ranks {
    int world;
    const char* tp;
  };
  for (const Ranks& ranks : {Ranks{2, "1"}, {2, "2"}, {4, "2"}}) {
    SCOPED_TRACE(testing::Message() << ranks.world << " ranks, tp " << ranks.tp);
    RunIn(std::to_string(ranks.world) + "_tp" + ranks.tp);
    ExpectNear(Losses(Mpirun(ranks.world, {"--bind-to", "none"}),
                      {"--set", std::string("parallel.tp=") + ranks.tp}),
               one);
    EXPECT_THAT(output_, HasSubstr("through host memory"));
    const ProcessResult inspect =
        RunProcess({std::getenv("ENTRAIN_TEST_BINARY"), "inspect", config_.run.dir});
    EXPECT_THAT(inspect.output, HasSubstr("collectives   through host memory\n"));
  }
}

TEST_F(DeviceSwitchTest, AModelThatIsTooLargeIsRefusedWithWhatItTakes) {
  config_.model.width = 8192;
  config_.model.heads = 64;
  config_.model.layers = 96;
  const ProcessResult result = RunProcess(Command({}, {}));
  EXPECT_NE(result.code, 0);
  EXPECT_THAT(result.error, HasSubstr("GB of GPU memory"));
  EXPECT_THAT(result.error, HasSubstr("micro_batch"));
}

// Each of two ranks would fit alone.
TEST_F(DeviceSwitchTest, RanksThatShareAGpuMustFitTogether) {
  config_.model.width = 2048;
  config_.model.heads = 16;
  const auto planned_mb = [&](int64_t layers) {
    config_.model.layers = layers;
    const ProcessResult dry = RunProcess(Command({}, {"--dry-run"}));
    EXPECT_EQ(dry.code, 0) << dry.error;
    output_ = dry.output;
    return NumberBehind(dry.output, "\nmemory");
  };
  const double two = planned_mb(2), layer = (planned_mb(4) - two) / 2;
  const double free_mb = NumberBehind(output_, "(free:");
  config_.model.layers = 2 + static_cast<int64_t>((0.7 * free_mb - two) / layer);
  MicroStepOf(config_.train.micro_batch, 2);
  const ProcessResult result = RunProcess(Command(Mpirun(2, {"-q", "--bind-to", "none"}), {}));
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.error, HasSubstr("of GPU memory a rank"));
  EXPECT_THAT(result.error, HasSubstr("are free for the 2 ranks there"));
}

TEST_F(DeviceSwitchTest, EvaluatingTooManyAtATimeIsRefused) {
  constexpr int64_t kSequences = 1 << 20;  // hundreds of GB at this width
  config_.train.steps = 1;
  config_.model.width = 512;
  config_.model.heads = 8;
  config_.model.context = 16;
  ASSERT_EQ(Losses().size(), 1U);
  const std::string tokens = folder_.path() + "/many.bin";
  WriteTokens(tokens, kSequences * config_.model.context + 1, config_.model.vocab, 3);
  const ProcessResult result =
      RunProcess({std::getenv("ENTRAIN_TEST_BINARY"), "eval", "--model", config_.run.dir,
                  "--tokens", tokens, "--device", "cuda", "--batch", absl::StrCat(kSequences)});
  EXPECT_EQ(result.code, 1) << result.output;
  EXPECT_THAT(result.error, HasSubstr("lower --batch"));
}

}  // namespace
}  // namespace entrain
