#include "launcher/train_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "launcher/hf_config.h"
#include "launcher/train_config_keys.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

constexpr char kRequired[] = "[run]\ndir = \"r\"\n[data]\ntrain = \"t\"\n";

// The keys that must be given come by --set, so that `text` may open any section.
TrainConfig Parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  std::vector<std::string> all = {"run.dir=r", "data.train=t"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  absl::StatusOr<TrainConfig> config = ParseTrainConfig(text, "run.toml", all);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *std::move(config) : TrainConfig{};
}

// Two configurations are the same when every key is.
void ExpectSame(const TrainConfig& a, const TrainConfig& b) {
  for (const TrainConfigKey& key : TrainConfigKeys()) {
    EXPECT_EQ(ToText(key.key.get(a)), ToText(key.key.get(b))) << KeyTitle(key);
  }
}

TEST(TrainConfigTest, DefaultsAreThoseOfTheStructs) {
  TrainConfig expected;
  expected.run.dir = "r";
  expected.data.train = "t";
  ExpectSame(Parse(""), expected);
}

TEST(TrainConfigTest, EveryKeyOfAFileArrives) {
  const TrainConfig config = Parse(R"(
[model]
layers = 3
heads = 5
width = 20
context = 7
vocab = 100
block = "parallel"
position = "rotary"
rotary_pct = 0.5
block_norm = "none"
final_norm = "none"
tie_word_embeddings = false
ffn = "relu"
ffn_pruned = 1
ffn_scaling = true
ffn_weight_norm = "spectral"
weight_norm_axis = "input"
temperature = "per_head"
temperature_init = 1
temperature_min = 0.5
qk_bias = false
vo_bias = false
ffn_bias = false
residual_init_scale = false
[model.entropy_regularizer]
granularity = "query"
strength = 1
margin = 0.25
max_entropy = "causal"
statistics = "previous_step"
start_step = 3
warmup_steps = 4
threshold_init = 0.5
[data]
validation = "v"
tokenizer = "byte"
format = "megatron"
shuffle = false
[train]
steps = 9
global_batch = 12
micro_batch = 4
seed = 9223372036854775807
precision = "bf16"
device = "cpu"
threads = 2
recompute = true
attention = "entrain"
tune = false
tuning = "other/tuning.txt"
max_bad_steps = 1
[optimizer]
lr = 1
beta1 = 0
beta2 = 0.5
eps = 1e-6
weight_decay = 0
clip = 0
schedule = "cosine"
warmup_steps = 2
min_lr = 0.1
[checkpoint]
every = 5
keep = 3
keep_every = 10
background = true
[validation]
every = 6
batches = 7
[logging]
every = 8
)");
  EXPECT_EQ(config.model.layers, 3);
  EXPECT_EQ(config.model.heads, 5);
  EXPECT_EQ(config.model.width, 20);
  EXPECT_EQ(config.model.context, 7);
  EXPECT_EQ(config.model.vocab, 100);
  EXPECT_EQ(config.model.block, BlockKind::kParallel);
  EXPECT_EQ(config.model.position, Position::kRotary);
  EXPECT_EQ(config.model.rotary_pct, 0.5);
  EXPECT_EQ(config.model.block_norm, Norm::kNone);
  EXPECT_EQ(config.model.final_norm, Norm::kNone);
  EXPECT_FALSE(config.model.tie_word_embeddings);
  EXPECT_EQ(config.model.ffn, Ffn::kRelu);
  EXPECT_EQ(config.model.ffn_pruned, 1);
  EXPECT_TRUE(config.model.ffn_scaling);
  EXPECT_EQ(config.model.ffn_weight_norm, WeightNorm::kSpectral);
  EXPECT_EQ(config.model.weight_norm_axis, NormAxis::kInput);
  EXPECT_EQ(config.model.temperature, Temperature::kPerHead);
  EXPECT_EQ(config.model.temperature_init, 1.0);
  EXPECT_EQ(config.model.temperature_min, 0.5);
  EXPECT_FALSE(config.model.qk_bias || config.model.vo_bias || config.model.ffn_bias);
  EXPECT_FALSE(config.model.residual_init_scale);
  ASSERT_TRUE(config.model.entropy_regularizer.has_value());
  const EntropyRegularizerConfig& regularizer = *config.model.entropy_regularizer;
  EXPECT_EQ(regularizer.granularity, Granularity::kQuery);
  EXPECT_EQ(regularizer.strength, 1.0);
  EXPECT_EQ(regularizer.margin, 0.25);
  EXPECT_EQ(regularizer.max_entropy, MaxEntropy::kCausal);
  EXPECT_EQ(regularizer.statistics, Statistics::kPreviousStep);
  EXPECT_EQ(regularizer.start_step, 3);
  EXPECT_EQ(regularizer.warmup_steps, 4);
  EXPECT_EQ(regularizer.threshold_init, 0.5);
  EXPECT_EQ(config.data.validation, "v");
  EXPECT_EQ(config.data.tokenizer, "byte");
  EXPECT_EQ(config.data.format, TokenFormat::kMegatron);
  EXPECT_FALSE(config.data.shuffle);
  EXPECT_EQ(config.train.steps, 9);
  EXPECT_EQ(config.train.global_batch, 12);
  EXPECT_EQ(config.accumulation(1), 3);
  EXPECT_EQ(config.train.seed, 9223372036854775807U);
  EXPECT_EQ(config.compute_dtype(), DType::kBf16);
  EXPECT_EQ(config.train.device, DeviceChoice::kCpu);
  EXPECT_EQ(config.train.threads, 2);
  EXPECT_TRUE(config.train.recompute);
  EXPECT_EQ(config.train.attention, AttentionChoice::kEntrain);
  EXPECT_FALSE(config.train.tune);
  EXPECT_EQ(config.train.tuning, "other/tuning.txt");
  EXPECT_EQ(config.train.max_bad_steps, 1);
  EXPECT_EQ(config.optimizer.lr, 1.0);
  EXPECT_EQ(config.optimizer.beta1, 0.0);
  EXPECT_EQ(config.optimizer.beta2, 0.5);
  EXPECT_EQ(config.optimizer.eps, 1e-6);
  EXPECT_EQ(config.optimizer.weight_decay, 0.0);
  EXPECT_EQ(config.optimizer.clip, 0.0);
  EXPECT_EQ(config.optimizer.schedule, Schedule::kCosine);
  EXPECT_EQ(config.optimizer.warmup_steps, 2);
  EXPECT_EQ(config.optimizer.min_lr, 0.1);
  EXPECT_EQ(config.checkpoint.every, 5);
  EXPECT_EQ(config.checkpoint.keep, 3);
  EXPECT_EQ(config.checkpoint.keep_every, 10);
  EXPECT_TRUE(config.checkpoint.background);
  EXPECT_EQ(config.validation.every, 6);
  EXPECT_EQ(config.validation.batches, 7);
  EXPECT_EQ(config.logging.every, 8);

  ExpectSame(*ParseTrainConfig(ToToml(config), "copy.toml", {}), config);
}

TEST(TrainConfigTest, PresetIsAppliedBeforeKeysWhereverTheyStand) {
  const TrainConfig config =
      Parse("[model]\nffn = \"relu\"\nqk_bias = false\narchitecture = \"ereg\"\n");
  EXPECT_EQ(config.model.architecture, "ereg");
  EXPECT_EQ(config.model.ffn, Ffn::kRelu);
  EXPECT_FALSE(config.model.qk_bias);
  EXPECT_TRUE(config.model.ffn_scaling);
  EXPECT_TRUE(config.model.entropy_regularizer.has_value());
}

TEST(TrainConfigTest, PresetOfAnOverrideStillYieldsToTheFilesKeys) {
  const TrainConfig config = Parse("[model]\narchitecture = \"ereg\"\nffn = \"relu\"\nlayers = 8\n",
                                   {"model.architecture=sm-scfuffn-i2"});
  EXPECT_EQ(config.model.architecture, "sm-scfuffn-i2");
  EXPECT_EQ(config.model.ffn, Ffn::kRelu);
  EXPECT_EQ(config.model.ffn_pruned, 2);
  EXPECT_EQ(config.model.layers, 8);
  EXPECT_FALSE(config.model.entropy_regularizer.has_value());
}

TEST(TrainConfigTest, CustomTakesAPresetBack) {
  const TrainConfig config =
      Parse("[model]\narchitecture = \"ereg\"\n", {"model.architecture=custom"});
  EXPECT_EQ(config.model.ffn, Ffn::kGelu);
  EXPECT_FALSE(config.model.entropy_regularizer.has_value());
}

TEST(TrainConfigTest, RegulariserCanBeRemovedAddedAndChanged) {
  const std::string ereg = "[model]\narchitecture = \"ereg\"\n";
  const auto has = [](const TrainConfig& config) {
    return config.model.entropy_regularizer.has_value();
  };
  EXPECT_FALSE(has(Parse(ereg + "entropy_regularizer = \"none\"\n")));
  EXPECT_FALSE(has(Parse(ereg + "entropy_regularizer = false\n")));
  EXPECT_FALSE(has(Parse(ereg, {"model.entropy_regularizer=none"})));
  EXPECT_TRUE(has(Parse("[model]\nentropy_regularizer = true\n")));
  EXPECT_TRUE(has(Parse("[model.entropy_regularizer]\n")));
  const TrainConfig changed = Parse(
      ereg, {"model.entropy_regularizer.strength=0.5", "model.entropy_regularizer={margin=0.1}"});
  EXPECT_EQ(changed.model.entropy_regularizer->strength, 0.5);
  EXPECT_EQ(changed.model.entropy_regularizer->margin, 0.1);
  const TrainConfig anew =
      Parse(ereg + "[model.entropy_regularizer]\nstrength = 9.0\n",
            {"model.entropy_regularizer=none", "model.entropy_regularizer.margin=0.1"});
  EXPECT_EQ(anew.model.entropy_regularizer->strength, 0.164);
}

TEST(TrainConfigTest, OverridesAreTomlValuesOrBareWords) {
  const TrainConfig config =
      Parse("[train]\nsteps = 5\n",
            {"train.steps=7", "optimizer.lr=1e-4", "train.recompute=true", "train.precision=bf16",
             "optimizer.schedule=\"constant\"", "run.dir=runs/a b#1", "data.train=2024",
             "data.validation=\"quoted = yes\"", "data.tokenizer="});
  EXPECT_EQ(config.train.steps, 7);
  EXPECT_EQ(config.optimizer.lr, 1e-4);
  EXPECT_TRUE(config.train.recompute);
  EXPECT_EQ(config.train.precision, Precision::kBf16);
  EXPECT_EQ(config.optimizer.schedule, Schedule::kConstant);
  EXPECT_EQ(config.run.dir, "runs/a b#1");
  EXPECT_EQ(config.data.train, "2024");
  EXPECT_EQ(config.data.validation, "quoted = yes");
  EXPECT_EQ(config.data.tokenizer, "");
}

TEST(TrainConfigTest, LaterOverridesWin) {
  EXPECT_EQ(Parse("", {"train.steps=7", "train.steps=8"}).train.steps, 8);
}

TEST(TrainConfigTest, MicroBatchOfZeroIsTheGlobalBatch) {
  const TrainConfig config = Parse("[train]\nglobal_batch = 6\n");
  EXPECT_EQ(config.micro_batch(1), 6);
  EXPECT_EQ(config.accumulation(1), 1);
}

TEST(TrainConfigTest, WrittenTextReadsBackTheSameForEveryPreset) {
  for (std::string name : PresetNames()) {
    if (name.ends_with("-ik")) name.back() = '3';
    TrainConfig config = Parse("", {"model.architecture=" + name, "optimizer.lr=0.1"});
    config.run.dir = "tab\t\"quote\" back\\slash \x7f \xc3\xa4 new\nline";
    config.model.temperature_init = 1.0 / 3.0;
    ExpectSame(*ParseTrainConfig(ToToml(config), "copy.toml", {}), config);
  }
}

TEST(TrainConfigTest, ARemovedRegulariserStaysRemovedWhenReadBack) {
  const TrainConfig config =
      Parse("", {"model.architecture=ereg", "model.entropy_regularizer=none"});
  EXPECT_FALSE(
      ParseTrainConfig(ToToml(config), "copy.toml", {})->model.entropy_regularizer.has_value());
}

TEST(TrainConfigTest, DescriptionHasEveryKeyWithItsDefault) {
  const std::string text = DescribeConfigKeys();
  for (const TrainConfigKey& key : TrainConfigKeys()) {
    EXPECT_THAT(text, HasSubstr("\n  " + key.key.name + " ")) << KeyTitle(key);
  }
  EXPECT_THAT(text,
              HasSubstr("[train]\n  steps = 1000\n      optimizer steps -- an integer >= 1\n"));
  EXPECT_THAT(text, HasSubstr("  dir (to be given)\n"));
  EXPECT_THAT(text, HasSubstr("[model.entropy_regularizer]\n  granularity = \"head\"\n"));
}

TEST(TrainConfigTest, LoadsAFile) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/run.toml";
  ASSERT_TRUE(WriteTextAtomically(FileSystem::Posix(), path, kRequired).ok());
  const absl::StatusOr<TrainConfig> config = LoadTrainConfig(path, {"train.steps=3"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->train.steps, 3);
}

TEST(TrainConfigTest, AMissingFileIsNotFoundByName) {
  const absl::StatusOr<TrainConfig> config = LoadTrainConfig("/no/such/run.toml", {});
  EXPECT_EQ(config.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(config.status().message()), HasSubstr("/no/such/run.toml"));
}

// --- init_from -------------------------------------------------------------------------------------------------------

class InitFromTest : public ::testing::Test {
 protected:
  InitFromTest() {
    ModelConfig model = *PresetArchitecture("sm-ln");
    model.width = 96;
    model.layers = 2;
    model.context = 32;
    const std::string path = folder_.path() + "/config.json";
    EXPECT_TRUE(WriteTextAtomically(FileSystem::Posix(), path, ToHfConfig(model)).ok());
  }

  absl::StatusOr<TrainConfig> ParseWith(const std::string& keys) const {
    return ParseTrainConfig(
        std::string(kRequired) + "[model]\ninit_from = \"" + folder_.path() + "\"\n" + keys,
        "run.toml", {});
  }

  TemporaryFolder folder_;
};

TEST_F(InitFromTest, TakesTheModelOfTheFolder) {
  const absl::StatusOr<TrainConfig> config = ParseWith("");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->init_from, folder_.path());
  EXPECT_EQ(config->model.architecture, "sm-ln");
  EXPECT_EQ(config->model.width, 96);
  EXPECT_EQ(config->model.layers, 2);
  EXPECT_EQ(config->model.context, 32);
  EXPECT_FALSE(config->model.ffn_bias);
}

TEST_F(InitFromTest, KeysThatShapeNothingMayBeSet) {
  const absl::StatusOr<TrainConfig> config =
      ParseWith("temperature_init = 0.5\n[model.entropy_regularizer]\nstrength = 0.25\n");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model.temperature_init, 0.5);
  EXPECT_EQ(config->model.entropy_regularizer->strength, 0.25);
}

TEST_F(InitFromTest, RestatingTheFolderIsHarmless) {
  EXPECT_TRUE(ParseWith("width = 96\narchitecture = \"sm-ln\"\n").ok());
}

TEST_F(InitFromTest, ContradictingTheFolderIsRefused) {
  EXPECT_EQ(std::string(ParseWith("width = 128\n").status().message()),
            "run.toml:7:1: [model] width = 128: must be 96, which " + folder_.path() +
                "/config.json says; remove the key, or init_from");
  EXPECT_EQ(std::string(ParseWith("architecture = \"ereg\"\n").status().message()),
            "run.toml:7:1: [model] architecture = \"ereg\": must be \"sm-ln\", which " +
                folder_.path() + "/config.json says; remove the key, or init_from");
}

TEST_F(InitFromTest, WhatIsOverriddenContradictsNothing) {
  const std::string text =
      std::string(kRequired) + "[model]\ninit_from = \"" + folder_.path() + "\"\nwidth = 128\n";
  EXPECT_FALSE(ParseTrainConfig(text, "run.toml", {}).ok());
  const absl::StatusOr<TrainConfig> config = ParseTrainConfig(text, "run.toml", {"model.width=96"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model.width, 96);
  EXPECT_THAT(
      std::string(ParseTrainConfig(text, "run.toml", {"model.width=64"}).status().message()),
      ::testing::StartsWith("--set model.width=64: [model] width = 64: must be 96"));
}

TEST_F(InitFromTest, WrittenTextReadsBackWithoutTheFolder) {
  const TrainConfig config = *ParseWith("");
  const std::string text = ToToml(config);
  std::filesystem::remove(folder_.path() + "/config.json");
  const absl::StatusOr<TrainConfig> copy = ParseTrainConfig(text, "copy.toml", {});
  ASSERT_TRUE(copy.ok()) << copy.status();
  ExpectSame(*copy, config);
}

TEST_F(InitFromTest, AFolderWithoutConfigJsonIsNamed) {
  std::filesystem::remove(folder_.path() + "/config.json");
  const absl::Status status = ParseWith("").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("run.toml:6:1: [model] init_from = \"" + folder_.path() + "\": "));
  EXPECT_THAT(message, HasSubstr(folder_.path() + "/config.json"));
}

}  // namespace
}  // namespace entrain
