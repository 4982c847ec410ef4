// The golden cases through the real commands: eval, and ten steps of train.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/golden_case.h"
#include "tests/support/run_config.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

class GoldenCommandsTest : public ::testing::TestWithParam<std::string> {
 protected:
  GoldenCommandsTest() : golden_(LoadGolden(GetParam())) {}

  TrainConfig TenSteps(Precision precision) const {
    TrainConfig config;
    config.run.dir = folder_.path() + "/run";
    config.init_from = golden_.folder;
    config.model = golden_.config;
    config.data.train = golden_.folder + "/tokens.bin";
    config.data.shuffle = false;
    config.train.steps = 10;
    config.train.global_batch = GoldenCase::kBatch;
    config.train.precision = precision;
    config.optimizer = {.lr = golden_.lr,
                        .beta1 = golden_.beta1,
                        .beta2 = golden_.beta2,
                        .eps = golden_.eps,
                        .weight_decay = golden_.weight_decay,
                        .clip = golden_.clip,
                        .schedule = Schedule::kConstant,
                        .min_lr = golden_.lr};
    config.checkpoint.every = 0;
    config.logging.every = 1;
    return config;
  }

  std::vector<nlohmann::json> Train(Precision precision) {
    const std::string path = WriteConfig(folder_.path(), "train.toml", TenSteps(precision));
    const ProcessResult result = RunEntrain({"train", "--config", path});
    EXPECT_EQ(result.code, 0) << result.error;
    const auto text = FileSystem::Posix().ReadText(folder_.path() + "/run/metrics.jsonl");
    EXPECT_TRUE(text.ok()) << text.status().ToString();
    std::vector<nlohmann::json> records;
    std::istringstream lines(text.ok() ? *text : "");
    for (std::string line; std::getline(lines, line);)
      records.push_back(nlohmann::json::parse(line));
    return records;
  }

  TemporaryFolder folder_;
  GoldenCase golden_;
};

TEST_P(GoldenCommandsTest, Eval) {
  const ProcessResult result =
      RunEntrain({"eval", "--model", golden_.folder, "--tokens", golden_.folder + "/tokens.bin",
                  "--batch", "4", "--json"});
  ASSERT_EQ(result.code, 0) << result.error;
  const auto json = nlohmann::json::parse(result.output);
  EXPECT_NEAR(json["loss"], golden_.loss, 1e-6 * golden_.loss);
  EXPECT_NEAR(json["perplexity"], std::exp(golden_.loss), 1e-5 * std::exp(golden_.loss));
  EXPECT_NEAR(json["penalty"], golden_.penalty, 1e-6);
  EXPECT_NEAR(json["total"], golden_.total, 1e-6 * golden_.total);
  EXPECT_EQ(json["tokens"], GoldenCase::kBatch * golden_.config.context);
  for (size_t l = 0; l < golden_.head_entropy.size(); ++l) {
    for (size_t h = 0; h < golden_.head_entropy[l].size(); ++h) {
      EXPECT_NEAR(json["head_entropy"][l][h], golden_.head_entropy[l][h], 1e-6);
    }
  }
}

TEST_P(GoldenCommandsTest, TenStepsOfAdamW) {
  const std::vector<nlohmann::json> records = Train(Precision::kFp32);
  ASSERT_EQ(records.size(), golden_.steps.size());
  for (size_t i = 0; i < records.size(); ++i) {
    const GoldenStep& want = golden_.steps[i];
    const double tolerance = golden_.Tolerance("adamw", std::to_string(i + 1), 1e-4);
    EXPECT_NEAR(records[i]["loss"], want.loss, tolerance * want.loss) << "step " << i + 1;
    EXPECT_NEAR(records[i]["penalty"], want.penalty, tolerance) << "step " << i + 1;
    EXPECT_NEAR(records[i]["total"], want.total, tolerance * want.total) << "step " << i + 1;
  }
  EXPECT_NEAR(records[0]["grad_norm"], golden_.steps[0].grad_norm,
              1e-5 * golden_.steps[0].grad_norm);
}

// bf16 follows as closely as its rounding lets it: 1 %, or twice the measured floor where that is more.
TEST_P(GoldenCommandsTest, TenStepsInBf16) {
  const std::vector<nlohmann::json> records = Train(Precision::kBf16);
  ASSERT_EQ(records.size(), golden_.steps.size());
  for (size_t i = 0; i < records.size(); ++i) {
    const double tolerance = golden_.Tolerance("adamw_bf16", std::to_string(i + 1), 1e-2);
    EXPECT_NEAR(records[i]["loss"], golden_.steps[i].loss, tolerance * golden_.steps[i].loss)
        << "step " << i + 1;
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenCommandsTest, ::testing::ValuesIn(GoldenNames()),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace entrain
