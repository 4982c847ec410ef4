#include "model/model_keys.h"

#include "runtime/kernels/attention.h"

namespace entrain {
namespace {

using Key = ModelKey<ModelConfig>;
using Place = ConfigJsonPlace;

// Upper limits are far above any model; they keep products of sizes inside 64 bits.
constexpr IntegerRange kLayers{.min = 1, .max = 4096};
constexpr IntegerRange kHeads{.min = 1, .max = 4096};
constexpr IntegerRange kWidth{.min = 1, .max = 1 << 20};
constexpr IntegerRange kContext{.min = 1, .max = 1 << 24};
constexpr IntegerRange kVocab{.min = 1,
                              .max = std::numeric_limits<int32_t>::max()};  // ids are int32
constexpr NumberRange kFraction{.min = 0, .max = 1};
constexpr NumberRange kTemperature{.min = kLeastTemperature, .max = 1e6};  // far beyond use

Key Gpt2(ConfigKey<ModelConfig> key, std::string gpt2_name) {
  return {std::move(key), Place::kGpt2, std::move(gpt2_name)};
}

std::vector<Key> SizeKeys() {
  using M = ModelConfig;
  return {
      Gpt2(IntegerKey("layers", &M::layers, kLayers, "blocks, L"), "n_layer"),
      Gpt2(IntegerKey("heads", &M::heads, kHeads, "attention heads a block, H"), "n_head"),
      Gpt2(IntegerKey("width", &M::width, kWidth, "model width, d; divisible by heads"), "n_embd"),
      Gpt2(IntegerKey("context", &M::context, kContext, "positions, T"), "n_positions"),
      Gpt2(IntegerKey("vocab", &M::vocab, kVocab, "vocabulary, V"), "vocab_size"),
      Gpt2(BooleanKey("tie_word_embeddings", &M::tie_word_embeddings,
                      "the head is the token embedding"),
           "tie_word_embeddings"),
  };
}

std::vector<Key> ArchitectureKeys() {
  using M = ModelConfig;
  return {
      {EnumKey("block", &M::block, kBlockNames, "FFN after attention, or beside it (Pythia)")},
      {EnumKey("position", &M::position, kPositionNames, "position embedding")},
      {EnumKey("block_norm", &M::block_norm, kNormNames, "norms inside the blocks")},
      {EnumKey("final_norm", &M::final_norm, kNormNames, "norm before the head")},
      {EnumKey("ffn", &M::ffn, kFfnNames, "FFN's activation; fused: one [d, d] matrix")},
      {IntegerKey("ffn_pruned", &M::ffn_pruned, {}, "deepest blocks without an FFN")},
      {BooleanKey("ffn_scaling", &M::ffn_scaling, "learned scalars alpha and beta a block")},
      {EnumKey("ffn_weight_norm", &M::ffn_weight_norm, kWeightNormNames,
               "re-parameterisation of the FFN's matrices")},
      {EnumKey("temperature", &M::temperature, kTemperatureNames, "learned softmax temperatures")},
      {.key = NumberKey("temperature_min", &M::temperature_min, kTemperature,
                        "temperatures are clamped to it after each step"),
       .fixed_by_weights = false},
      {BooleanKey("qk_bias", &M::qk_bias, "biases of q and k")},
      {BooleanKey("vo_bias", &M::vo_bias, "biases of v and of attention's output")},
      {BooleanKey("ffn_bias", &M::ffn_bias, "biases of the FFN")},
      {NumberKey("rotary_pct", &M::rotary_pct, {.min = 0, .max = 1, .min_excluded = true},
                 "share of a head's dimensions that rotate"),
       Place::kEntrainUnlessDefault},
      {EnumKey("weight_norm_axis", &M::weight_norm_axis, kNormAxisNames,
               "a weight norm for each output unit or input row"),
       Place::kEntrainUnlessDefault},
      {.key =
           NumberKey("temperature_init", &M::temperature_init, kTemperature, "initial temperature"),
       .place = Place::kEntrainUnlessDefault,
       .fixed_by_weights = false},
      {.key = BooleanKey("residual_init_scale", &M::residual_init_scale,
                         "initial residual projections / sqrt(2 L)"),
       .place = Place::kEntrainUnlessDefault,
       .fixed_by_weights = false},
  };
}

}  // namespace

const std::vector<Key>& ModelKeys() {
  static const std::vector<Key> keys = [] {
    std::vector<Key> all = SizeKeys();
    for (Key& key : ArchitectureKeys()) all.push_back(std::move(key));
    return all;
  }();
  return keys;
}

const std::vector<ModelKey<EntropyRegularizerConfig>>& RegularizerKeys() {
  using R = EntropyRegularizerConfig;
  static const std::vector<ModelKey<R>> keys = {
      {EnumKey("granularity", &R::granularity, kGranularityNames,
               "penalise a head's mean entropy or each row's")},
      {NumberKey("strength", &R::strength, {}, "lambda, on the mean over rows, heads and layers")},
      {NumberKey("margin", &R::margin, kFraction, "gamma: deviation free of charge, over E_max")},
      {EnumKey("max_entropy", &R::max_entropy, kMaxEntropyNames,
               "E_max: log T, or log i of row i")},
      {EnumKey("statistics", &R::statistics, kStatisticsNames, "whose entropies the penalty sees"),
       Place::kEntrainUnlessDefault},
      {IntegerKey("start_step", &R::start_step, {}, "strength is 0 before this step"),
       Place::kEntrainUnlessDefault},
      {IntegerKey("warmup_steps", &R::warmup_steps, {}, "steps over which strength then rises"),
       Place::kEntrainUnlessDefault},
      {NumberKey("threshold_init", &R::threshold_init, kFraction, "initial theta, over E_max"),
       Place::kEntrainUnlessDefault},
  };
  return keys;
}

}  // namespace entrain
