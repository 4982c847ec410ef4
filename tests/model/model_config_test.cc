#include "model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "model/model_keys.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

ModelConfig Preset(std::string_view name) {
  absl::StatusOr<ModelConfig> config = PresetArchitecture(name);
  EXPECT_TRUE(config.ok()) << name << ": " << config.status();
  return config.value_or(ModelConfig{});
}

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

// The architecture as keys and values; sizes and the name left out.
std::string ArchitectureOf(const ModelConfig& config) {
  std::string text;
  for (const ModelKey<ModelConfig>& key : ModelKeys()) {
    if (key.place == ConfigJsonPlace::kGpt2 && key.key.name != "tie_word_embeddings") continue;
    const ConfigValue value = key.key.get(config);
    if (value != key.key.get(ModelConfig{})) text += key.key.name + "=" + ToText(value) + " ";
  }
  if (config.entropy_regularizer) text += "regularised";
  return text;
}

struct PresetCase {
  const char* name;
  const char* differs_from_gpt2;
};

class PresetTest : public ::testing::TestWithParam<PresetCase> {};

TEST_P(PresetTest, IsTheRowOfTheTable) {
  const ModelConfig config = Preset(GetParam().name);
  EXPECT_EQ(config.architecture, GetParam().name);
  EXPECT_EQ(ArchitectureOf(config), GetParam().differs_from_gpt2);
  EXPECT_TRUE(config.Validate().ok()) << config.Validate();
}

#define ENTRAIN_EGA "vo_bias=false ffn_bias=false residual_init_scale=false "
INSTANTIATE_TEST_SUITE_P(
    All, PresetTest,
    ::testing::Values(
        PresetCase{"sm-ln-g", ""}, PresetCase{"sm-ln-r", "ffn=\"relu\" " ENTRAIN_EGA},
        PresetCase{"sm-ln", "ffn=\"identity\" " ENTRAIN_EGA},
        PresetCase{"sm-g", "block_norm=\"none\" " ENTRAIN_EGA},
        PresetCase{"sm-r", "block_norm=\"none\" ffn=\"relu\" " ENTRAIN_EGA},
        PresetCase{"sm", "block_norm=\"none\" ffn=\"identity\" " ENTRAIN_EGA},
        PresetCase{"sm-wnorm",
                   "block_norm=\"none\" ffn=\"identity\" ffn_weight_norm=\"weight\" " ENTRAIN_EGA},
        PresetCase{"sm-snorm",
                   "block_norm=\"none\" ffn=\"identity\" "
                   "ffn_weight_norm=\"spectral\" " ENTRAIN_EGA},
        PresetCase{"sm-scffn",
                   "block_norm=\"none\" ffn=\"identity\" ffn_scaling=true " ENTRAIN_EGA},
        PresetCase{"sm-scfuffn", "block_norm=\"none\" ffn=\"fused\" ffn_scaling=true " ENTRAIN_EGA},
        PresetCase{"sm-scfuffn-i4",
                   "block_norm=\"none\" ffn=\"fused\" ffn_pruned=4 "
                   "ffn_scaling=true " ENTRAIN_EGA},
        PresetCase{"ereg",
                   "block_norm=\"none\" ffn=\"fused\" ffn_scaling=true "
                   "temperature=\"per_query\" " ENTRAIN_EGA "regularised"},
        PresetCase{"ereg-i12",
                   "block_norm=\"none\" ffn=\"fused\" ffn_pruned=12 ffn_scaling=true "
                   "temperature=\"per_query\" " ENTRAIN_EGA "regularised"},
        PresetCase{"pythia", "tie_word_embeddings=false block=\"parallel\" position=\"rotary\" "}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });
#undef ENTRAIN_EGA

TEST(PresetArchitectureTest, EregHasTheConvertedHyperparameters) {
  const ModelConfig config = Preset("ereg");
  ASSERT_TRUE(config.entropy_regularizer.has_value());
  EXPECT_EQ(config.entropy_regularizer->granularity, Granularity::kHead);
  EXPECT_EQ(config.entropy_regularizer->strength, 0.164);
  EXPECT_EQ(config.entropy_regularizer->margin, 0.20);
  EXPECT_EQ(config.entropy_regularizer->max_entropy, MaxEntropy::kLogT);
  EXPECT_EQ(config.entropy_regularizer->threshold_init, 0.35);
  EXPECT_EQ(config.temperature_init, 1e-2);
  EXPECT_EQ(config.temperature_min, 1e-3);
}

TEST(PresetArchitectureTest, UnknownNamesAreNotFound) {
  for (const char* name :
       {"", "gpt2", "sm-ln-i2", "ereg-i0", "ereg-i06", "ereg-i", "ereg-i-2", "ereg-i2x", "ereg-ik",
        "pythia-i2", "-i2", "ereg-i99999999999999999999"}) {
    EXPECT_EQ(PresetArchitecture(name).status().code(), absl::StatusCode::kNotFound) << name;
  }
}

TEST(PresetArchitectureTest, MessageListsNamesAndTheNearest) {
  const absl::StatusOr<ModelConfig> config = PresetArchitecture("sm-lng");
  EXPECT_EQ(MessageOf(config.status()),
            "architecture = \"sm-lng\": must be one of sm-ln-g, sm-ln-r, sm-ln, sm-g, sm-r, sm, "
            "sm-wnorm, sm-snorm, sm-scffn, sm-scfuffn, sm-scfuffn-ik, ereg, ereg-ik, pythia (k: a "
            "number of layers, as in ereg-i6), did you mean 'sm-ln-g'?");
}

TEST(PresetNamesTest, EachNameIsAPreset) {
  for (std::string name : PresetNames()) {
    if (name.ends_with("-ik")) name.back() = '3';
    EXPECT_TRUE(PresetArchitecture(name).ok()) << name;
  }
}

TEST(ModelConfigTest, DerivedSizes) {
  ModelConfig config;
  EXPECT_EQ(config.head_width(), 64);
  EXPECT_EQ(config.ffn_width(), 3072);
  EXPECT_EQ(config.padded_vocab(), 50304);
  config.vocab = 128;
  EXPECT_EQ(config.padded_vocab(), 128);
  config.ffn_pruned = 2;
  EXPECT_TRUE(config.layer_has_ffn(9));
  EXPECT_FALSE(config.layer_has_ffn(10));
}

TEST(ModelConfigTest, RotaryDimensionsAreEvenAndRoundedDown) {
  ModelConfig config;
  EXPECT_EQ(config.rotary_dims(), 16);
  config.rotary_pct = 1.0;
  EXPECT_EQ(config.rotary_dims(), 64);
  config.rotary_pct = 0.3;  // 19.2 dimensions
  EXPECT_EQ(config.rotary_dims(), 18);
  config.width = 12 * 5;
  config.rotary_pct = 1.0;
  EXPECT_EQ(config.rotary_dims(), 4);
}

struct BadCase {
  const char* message;
  void (*spoil)(ModelConfig*);
};

class BadModelTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadModelTest, IsRefusedByName) {
  ModelConfig config = *PresetArchitecture("ereg");
  GetParam().spoil(&config);
  const absl::Status status = config.Validate();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MessageOf(status), GetParam().message);
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

INSTANTIATE_TEST_SUITE_P(
    All, BadModelTest,
    ::testing::Values(
        BadCase{"layers = 0: must be an integer from 1 to 4096",
                [](ModelConfig* c) { c->layers = 0; }},
        BadCase{"heads = -1: must be an integer from 1 to 4096",
                [](ModelConfig* c) { c->heads = -1; }},
        BadCase{"width = 2000000: must be an integer from 1 to 1048576",
                [](ModelConfig* c) { c->width = 2000000; }},
        BadCase{"width = 770: must be divisible by heads = 12",
                [](ModelConfig* c) { c->width = 770; }},
        BadCase{"context = 0: must be an integer from 1 to 16777216",
                [](ModelConfig* c) { c->context = 0; }},
        BadCase{"vocab = 2147483648: must be an integer from 1 to 2147483647",
                [](ModelConfig* c) { c->vocab = int64_t{1} << 31; }},
        BadCase{"ffn_pruned = -1: must be an integer >= 0",
                [](ModelConfig* c) { c->ffn_pruned = -1; }},
        BadCase{"ffn_pruned = 13: must be at most layers = 12",
                [](ModelConfig* c) { c->ffn_pruned = 13; }},
        BadCase{"ffn = \"?\": must be one of gelu, relu, identity, fused",
                [](ModelConfig* c) { c->ffn = static_cast<Ffn>(17); }},
        BadCase{"rotary_pct = 0.0: must be a number in (0, 1]",
                [](ModelConfig* c) { c->rotary_pct = 0.0; }},
        BadCase{"rotary_pct = 0.03: leaves 0 of 64 dimensions of a head (width / heads) to rotate; "
                "must leave at least 2",
                [](ModelConfig* c) {
                  c->position = Position::kRotary;
                  c->rotary_pct = 0.03;
                }},
        BadCase{"temperature_min = 0.0: must be a number in [1e-06, 1e+06]",
                [](ModelConfig* c) { c->temperature_min = 0.0; }},
        BadCase{"temperature_min = 1e-300: must be a number in [1e-06, 1e+06]",
                [](ModelConfig* c) { c->temperature_min = 1e-300; }},
        BadCase{"temperature_init = nan: must be a number in [1e-06, 1e+06]",
                [](ModelConfig* c) { c->temperature_init = kNan; }},
        BadCase{"temperature_init = 1e-04: must be at least temperature_min = 0.001",
                [](ModelConfig* c) { c->temperature_init = 1e-4; }},
        BadCase{"strength = -0.5: must be a number >= 0",
                [](ModelConfig* c) { c->entropy_regularizer->strength = -0.5; }},
        BadCase{"strength = inf: must be a number >= 0",
                [](ModelConfig* c) {
                  c->entropy_regularizer->strength = std::numeric_limits<double>::infinity();
                }},
        BadCase{"margin = 1.5: must be a number in [0, 1]",
                [](ModelConfig* c) { c->entropy_regularizer->margin = 1.5; }},
        BadCase{"start_step = -1: must be an integer >= 0",
                [](ModelConfig* c) { c->entropy_regularizer->start_step = -1; }},
        BadCase{"threshold_init = 2.0: must be a number in [0, 1]",
                [](ModelConfig* c) { c->entropy_regularizer->threshold_init = 2.0; }}));

TEST(ModelConfigTest, RulesApplyOnlyWhereTheKeyIsOfUse) {
  ModelConfig config;
  config.rotary_pct = 0.001;       // positions are learned
  config.temperature_init = 1e-5;  // there is no temperature
  EXPECT_TRUE(config.Validate().ok()) << config.Validate();
}

}  // namespace
}  // namespace entrain
