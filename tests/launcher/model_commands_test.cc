// sample, inspect, export and eval on the checkpoint of a small run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "parallel/checkpoint.h"
#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace entrain {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// One run for all tests: a byte-level model, so that it can write text.
class ModelCommandsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    for (const Variant& variant : Variants()) {
      if (variant.name != "ereg") continue;
      ModelConfig model = variant.config;
      model.vocab = 257;
      TrainConfig config = SmallRun(folder_->path(), model);
      config.train.steps = 3;
      const std::string path = WriteConfig(folder_->path(), "train.toml", config);
      const ProcessResult result = RunEntrain({"train", "--config", path});
      ASSERT_EQ(result.code, 0) << result.error;
    }
  }
  static void TearDownTestSuite() { delete folder_; }

  static std::string folder() { return folder_->path(); }
  static std::string run() { return folder() + "/run"; }

  static std::string Sample(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"sample", "--model", run()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult result = RunEntrain(arguments);
    EXPECT_EQ(result.code, 0) << result.error;
    return result.output;
  }

  static nlohmann::json Eval(const std::string& model, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {
        "eval", "--model", model, "--tokens", folder() + "/tokens.bin", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult result = RunEntrain(arguments);
    EXPECT_EQ(result.code, 0) << result.error;
    return nlohmann::json::parse(result.output);
  }

 private:
  static TemporaryFolder* folder_;
};
TemporaryFolder* ModelCommandsTest::folder_ = nullptr;

TEST_F(ModelCommandsTest, SampleRepeatsForASeedAndDiffersForAnother) {
  const std::vector<std::string> command = {"--prompt", "def f", "--tokens", "40", "--seed", "7"};
  const std::string text = Sample(command);
  EXPECT_EQ(text.substr(0, 5), "def f");
  EXPECT_EQ(Sample(command), text);
  EXPECT_NE(Sample({"--prompt", "def f", "--tokens", "40", "--seed", "8"}), text);
}

TEST_F(ModelCommandsTest, SampleAtTemperatureZeroHasNoChance) {
  const std::vector<std::string> greedy = {"--prompt", "a", "--tokens", "20", "--temperature", "0"};
  std::vector<std::string> other_seed = greedy;
  other_seed.insert(other_seed.end(), {"--seed", "99"});
  EXPECT_EQ(Sample(greedy), Sample(other_seed));
  EXPECT_EQ(Sample(greedy), Sample({"--prompt", "a", "--tokens", "20", "--top-k", "1"}));
}

// The context is 13: the prompt is longer, and the text goes on beyond it.
TEST_F(ModelCommandsTest, SampleGoesOnBeyondTheContext) {
  const std::string prompt = "a prompt that is longer than the context";
  const std::string text = Sample({"--prompt", prompt, "--tokens", "60", "--top-k", "1"});
  EXPECT_EQ(text.substr(0, prompt.size()), prompt);
  EXPECT_GT(text.size(), prompt.size() + 13);
  EXPECT_EQ(Sample({"--prompt", prompt, "--tokens", "0"}), prompt + "\n");
}

TEST_F(ModelCommandsTest, InspectShowsWhatIsThere) {
  const ProcessResult result = RunEntrain({"inspect", run(), "--tensors"});
  ASSERT_EQ(result.code, 0) << result.error;
  EXPECT_THAT(result.output, HasSubstr("step          3 of 3 (3 updates, 0 skipped"));
  EXPECT_THAT(result.output, HasSubstr("every checksum holds"));
  EXPECT_THAT(result.output, HasSubstr("written by    entrain " ENTRAIN_VERSION "\n"));
  EXPECT_THAT(result.output, ContainsRegex("device        .* threads?"));
  EXPECT_THAT(result.output, HasSubstr("libraries     oneDNN "));
  EXPECT_THAT(result.output, HasSubstr("architecture  ereg: 3 layers, 2 heads, width 20"));
  EXPECT_THAT(result.output, HasSubstr("transformer.wte.weight"));
  EXPECT_THAT(result.output, HasSubstr("[257, 20]"));
  EXPECT_THAT(RunEntrain({"inspect", run()}).output, Not(HasSubstr("transformer.wte.weight")));
  const std::string checkpoint = run() + "/checkpoints/" + CheckpointName(3);
  EXPECT_EQ(RunEntrain({"inspect", checkpoint, "--tensors"}).output, result.output);
}

TEST_F(ModelCommandsTest, AnExportEvaluatesToTheSameNumbers) {
  const nlohmann::json from_run = Eval(run());
  ASSERT_EQ(RunEntrain({"export", "--model", run(), "--output", folder() + "/f32"}).code, 0);
  EXPECT_EQ(Eval(folder() + "/f32"), from_run);
  ASSERT_EQ(
      RunEntrain({"export", "--model", run(), "--output", folder() + "/bf16", "--dtype", "bf16"})
          .code,
      0);
  const double loss = from_run["loss"];
  EXPECT_NEAR(Eval(folder() + "/bf16")["loss"], loss, 1e-2 * loss);
  EXPECT_NE(Eval(folder() + "/bf16")["loss"], from_run["loss"]);
}

TEST_F(ModelCommandsTest, EvalDoesNotDependOnTheBatch) {
  const nlohmann::json eight = Eval(run(), {"--batch", "8"});
  for (const char* batch : {"1", "7", "30", "1000"}) {
    const nlohmann::json other = Eval(run(), {"--batch", batch});
    const double loss = eight["loss"];
    const double penalty = eight["penalty"];
    EXPECT_NEAR(other["loss"], loss, 1e-6 * loss) << "batch " << batch;
    EXPECT_NEAR(other["penalty"], penalty, 1e-6 * penalty) << "batch " << batch;
    EXPECT_EQ(other["tokens"], eight["tokens"]);
  }
}

}  // namespace
}  // namespace entrain
