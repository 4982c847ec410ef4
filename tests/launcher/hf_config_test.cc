#include "launcher/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "model/model_keys.h"
#include "runtime/io/file_system.h"

namespace entrain {
namespace {

using nlohmann::json;

constexpr char kPath[] = "m/config.json";

json Gpt2() { return {{"model_type", "gpt2"}, {"n_embd", 48}, {"n_layer", 2}, {"n_head", 4}}; }

json With(json config, const std::string& key, const json& value) {
  config[key] = value;
  return config;
}

ModelConfig Parsed(const json& config) {
  absl::StatusOr<ModelConfig> model = ParseHfConfig(config.dump(), kPath);
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : ModelConfig{};
}

std::string MessageFor(const std::string& text) {
  const absl::StatusOr<ModelConfig> model = ParseHfConfig(text, kPath);
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(model.status().message());
}

std::string MessageFor(const json& config) { return MessageFor(config.dump()); }

void ExpectSame(const ModelConfig& a, const ModelConfig& b) {
  EXPECT_EQ(a.architecture, b.architecture);
  for (const ModelKey<ModelConfig>& key : ModelKeys()) {
    EXPECT_EQ(ToText(key.key.get(a)), ToText(key.key.get(b))) << key.key.name;
  }
  ASSERT_EQ(a.entropy_regularizer.has_value(), b.entropy_regularizer.has_value());
  if (!a.entropy_regularizer) return;
  for (const ModelKey<EntropyRegularizerConfig>& key : RegularizerKeys()) {
    EXPECT_EQ(ToText(key.key.get(*a.entropy_regularizer)),
              ToText(key.key.get(*b.entropy_regularizer)))
        << key.key.name;
  }
}

// --- golden cases ----------------------------------------------------------------------------------------------------

std::vector<std::string> GoldenFolders() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(ENTRAIN_TEST_DATA_DIR "/golden")) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class GoldenConfigTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::string path() const {
    return std::string(ENTRAIN_TEST_DATA_DIR "/golden/") + GetParam() + "/config.json";
  }
  json Text() const { return json::parse(*FileSystem::Posix().ReadText(path())); }
};

TEST_P(GoldenConfigTest, IsReadAndWrittenWithTheSameKeysAndValues) {
  json expected = Text();
  const absl::StatusOr<ModelConfig> model = ParseHfConfig(expected.dump(), path());
  ASSERT_TRUE(model.ok()) << model.status();
  // A ReLU model says so in GPT-2's own key too: transformers then computes the same.
  if (expected["entrain"]["ffn"] == "relu") expected["activation_function"] = "relu";
  EXPECT_EQ(json::parse(ToHfConfig(*model)), expected);
}

TEST_P(GoldenConfigTest, IsThePresetOfItsName) {
  const ModelConfig model = Parsed(Text());
  std::string expected = GetParam();
  if (expected == "ereg-head") expected = "ereg";
  if (expected == "ereg-query-pruned") expected = "ereg-i1";
  EXPECT_EQ(model.architecture, expected);
  EXPECT_EQ(model.vocab, 40);
  EXPECT_EQ(model.context, 12);
  EXPECT_EQ(model.heads, 2);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenConfigTest, ::testing::ValuesIn(GoldenFolders()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(GoldenConfigTest, AllCasesAreThere) { EXPECT_EQ(GoldenFolders().size(), 11U); }

// --- round trips -----------------------------------------------------------------------------------------------------

TEST(HfConfigTest, EveryPresetComesBack) {
  for (std::string name : PresetNames()) {
    if (name.ends_with("-ik")) name.back() = '3';
    SCOPED_TRACE(name);
    ModelConfig model = *PresetArchitecture(name);
    model.layers = 5;
    ExpectSame(Parsed(json::parse(ToHfConfig(model))), model);
  }
}

TEST(HfConfigTest, EveryKeyComesBackWhereItIsNotTheDefault) {
  ModelConfig model;
  model.rotary_pct = 0.5;
  model.weight_norm_axis = NormAxis::kInput;
  model.temperature = Temperature::kPerHead;
  model.temperature_init = 1.0 / 3.0;
  model.temperature_min = 0.25;
  model.final_norm = Norm::kNone;
  model.residual_init_scale = false;
  model.entropy_regularizer = EntropyRegularizerConfig{.granularity = Granularity::kQuery,
                                                       .strength = 0.1,
                                                       .margin = 0.3,
                                                       .max_entropy = MaxEntropy::kCausal,
                                                       .statistics = Statistics::kPreviousStep,
                                                       .start_step = 5,
                                                       .warmup_steps = 6,
                                                       .threshold_init = 0.7};
  ModelConfig copy = Parsed(json::parse(ToHfConfig(model)));
  EXPECT_EQ(copy.architecture, "custom");
  ExpectSame(copy, model);
}

// --- plain GPT-2 -----------------------------------------------------------------------------------------------------

TEST(HfConfigTest, PlainGpt2HasTransformersDefaultsAndEveryBias) {
  const ModelConfig model = Parsed({{"model_type", "gpt2"}});
  EXPECT_EQ(model.architecture, "sm-ln-g");
  EXPECT_EQ(model.layers, 12);
  EXPECT_EQ(model.heads, 12);
  EXPECT_EQ(model.width, 768);
  EXPECT_EQ(model.context, 1024);
  EXPECT_EQ(model.vocab, 50257);
  EXPECT_TRUE(model.qk_bias && model.vo_bias && model.ffn_bias && model.tie_word_embeddings);
  EXPECT_FALSE(model.entropy_regularizer.has_value());
}

TEST(HfConfigTest, OpenAisConfigIsRead) {
  const ModelConfig model = Parsed(json::parse(R"({
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 1024, "n_head": 16,
    "n_inner": null, "n_layer": 24, "n_positions": 1024, "n_special": 0, "predict_special_tokens": true,
    "reorder_and_upcast_attn": false, "resid_pdrop": 0.1, "scale_attn_by_inverse_layer_idx": false,
    "scale_attn_weights": true, "summary_activation": null, "summary_first_dropout": 0.1,
    "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}},
    "transformers_version": "4.40.0", "use_cache": true, "vocab_size": 50257})"));
  EXPECT_EQ(model.layers, 24);
  EXPECT_EQ(model.width, 1024);
  EXPECT_EQ(model.architecture, "sm-ln-g");
}

TEST(HfConfigTest, ReluAndTheOtherNameOfTanhGelu) {
  EXPECT_EQ(Parsed(With(Gpt2(), "activation_function", "relu")).ffn, Ffn::kRelu);
  EXPECT_EQ(Parsed(With(Gpt2(), "activation_function", "gelu_pytorch_tanh")).ffn, Ffn::kGelu);
}

TEST(HfConfigTest, AnUntiedHeadIsKept) {
  EXPECT_FALSE(Parsed(With(Gpt2(), "tie_word_embeddings", false)).tie_word_embeddings);
}

TEST(HfConfigTest, SizesOfTheSameShapeAsTheDefaultsAreAccepted) {
  EXPECT_EQ(Parsed(With(Gpt2(), "n_inner", 192)).ffn_width(), 192);
}

// --- refusals --------------------------------------------------------------------------------------------------------

TEST(HfConfigTest, WhatIsNoConfig) {
  EXPECT_THAT(MessageFor(std::string("{\"model_type\": ")),
              ::testing::StartsWith("m/config.json: not JSON: parse error at line 1, column "));
  EXPECT_EQ(MessageFor(std::string("[1]")), "m/config.json: must be a JSON object");
  EXPECT_EQ(MessageFor(std::string("{}")), "m/config.json: model_type = null: must be \"gpt2\"");
  EXPECT_EQ(MessageFor(json{{"model_type", "llama"}}),
            "m/config.json: model_type = \"llama\": must be \"gpt2\"");
}

TEST(HfConfigTest, NestingBeyondAllDepthIsAnErrorLikeAnother) {
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  for (const char* key : {"n_embd", "model_type", "entrain"}) {
    EXPECT_THAT(MessageFor(R"({"model_type": "gpt2", ")" + std::string(key) + "\": " + deep + "}"),
                ::testing::HasSubstr(key));
  }
}

TEST(HfConfigTest, KeysThatChangeTheComputation) {
  const auto message = [](const std::string& key, const json& value) {
    return MessageFor(With(Gpt2(), key, value));
  };
  EXPECT_EQ(message("n_inner", 64), "m/config.json: n_inner = 64: must be 192 or absent");
  EXPECT_EQ(message("layer_norm_epsilon", 1e-6),
            "m/config.json: layer_norm_epsilon = 1e-06: must be 1e-05 or absent");
  EXPECT_EQ(message("scale_attn_weights", false),
            "m/config.json: scale_attn_weights = false: must be true or absent");
  EXPECT_EQ(message("scale_attn_by_inverse_layer_idx", true),
            "m/config.json: scale_attn_by_inverse_layer_idx = true: must be false or absent");
  EXPECT_EQ(message("add_cross_attention", true),
            "m/config.json: add_cross_attention = true: must be false or absent");
  EXPECT_EQ(message("activation_function", "gelu"),
            "m/config.json: activation_function = \"gelu\": must be gelu_new, gelu_pytorch_tanh or "
            "relu");
  EXPECT_EQ(message("activation_function", 3),
            "m/config.json: activation_function = 3: must be gelu_new, gelu_pytorch_tanh or relu");
}

TEST(HfConfigTest, SizesOutOfRangeAreNamedAsTheFileNamesThem) {
  EXPECT_EQ(MessageFor(With(Gpt2(), "n_layer", 0)),
            "m/config.json: n_layer = 0: must be an integer from 1 to 4096");
  EXPECT_EQ(MessageFor(With(Gpt2(), "vocab_size", "50257")),
            "m/config.json: vocab_size = \"50257\": must be an integer from 1 to 2147483647");
  EXPECT_EQ(MessageFor(With(Gpt2(), "n_embd", 18446744073709551615ULL)),
            "m/config.json: n_embd = 18446744073709551615: must be an integer from 1 to 1048576");
  EXPECT_EQ(MessageFor(With(Gpt2(), "n_head", 5)),
            "m/config.json: width = 48: must be divisible by heads = 5");
}

TEST(HfConfigTest, TheEntrainObject) {
  const auto message = [](const json& entrain) {
    return MessageFor(With(Gpt2(), "entrain", entrain));
  };
  EXPECT_EQ(message(7), "m/config.json: entrain = 7: must be an object");
  EXPECT_THAT(message({{"qk_bais", true}}),
              ::testing::StartsWith("m/config.json: unknown key 'qk_bais' in entrain, did you mean "
                                    "'qk_bias'? Keys: block, position, "));
  EXPECT_EQ(message({{"ffn", "swiglu"}}),
            "m/config.json: ffn = \"swiglu\": must be one of gelu, relu, identity, fused");
  EXPECT_EQ(message({{"qk_bias", nullptr}}),
            "m/config.json: qk_bias = null: must be true or false");
  EXPECT_EQ(message({{"ffn_pruned", 3}}),
            "m/config.json: ffn_pruned = 3: must be at most layers = 2");
  EXPECT_EQ(message({{"entropy_regularizer", "none"}}),
            "m/config.json: entropy_regularizer = \"none\": must be null or an object");
  EXPECT_EQ(message({{"entropy_regularizer", {{"strength", -1}}}}),
            "m/config.json: strength = -1: must be a number >= 0");
  EXPECT_THAT(message({{"entropy_regularizer", {{"lambda", 1}}}}),
              ::testing::StartsWith("m/config.json: unknown key 'lambda' in "
                                    "entrain.entropy_regularizer; keys: granularity, "));
}

TEST(HfConfigTest, AnActivationThatContradictsTheFfn) {
  json config = With(Gpt2(), "activation_function", "relu");
  EXPECT_EQ(MessageFor(With(config, "entrain", {{"ffn", "gelu"}})),
            "m/config.json: activation_function = \"relu\": does not fit entrain.ffn = \"gelu\"; "
            "must be gelu_new");
  config["activation_function"] = "silu";
  EXPECT_EQ(MessageFor(With(config, "entrain", {{"ffn", "relu"}})),
            "m/config.json: activation_function = \"silu\": does not fit entrain.ffn = \"relu\"; "
            "must be relu or gelu_new");
}

}  // namespace
}  // namespace entrain
