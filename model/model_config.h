// ModelConfig: one architecture, as data. Keys, defaults and presets of the model family.
#ifndef ENTRAIN_MODEL_MODEL_CONFIG_H_
#define ENTRAIN_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/weight.h"
#include "runtime/base/enum_table.h"
#include "runtime/base/status.h"

namespace entrain {

enum class BlockKind { kSequential, kParallel };
enum class Position { kLearned, kRotary };
enum class Norm { kNone, kLayerNorm };
enum class Ffn { kGelu, kRelu, kIdentity, kFused };
enum class Temperature { kNone, kPerQuery, kPerHead };
enum class Granularity { kHead, kQuery };
enum class MaxEntropy { kLogT, kCausal };
enum class Statistics { kMicroStep, kPreviousStep };

inline constexpr EnumTable<BlockKind, 2> kBlockNames{
    {{{BlockKind::kSequential, "sequential"}, {BlockKind::kParallel, "parallel"}}}};
inline constexpr EnumTable<Position, 2> kPositionNames{
    {{{Position::kLearned, "learned"}, {Position::kRotary, "rotary"}}}};
inline constexpr EnumTable<Norm, 2> kNormNames{
    {{{Norm::kNone, "none"}, {Norm::kLayerNorm, "layernorm"}}}};
inline constexpr EnumTable<Ffn, 4> kFfnNames{{{{Ffn::kGelu, "gelu"},
                                               {Ffn::kRelu, "relu"},
                                               {Ffn::kIdentity, "identity"},
                                               {Ffn::kFused, "fused"}}}};
inline constexpr EnumTable<Temperature, 3> kTemperatureNames{
    {{{Temperature::kNone, "none"},
      {Temperature::kPerQuery, "per_query"},
      {Temperature::kPerHead, "per_head"}}}};
inline constexpr EnumTable<Granularity, 2> kGranularityNames{
    {{{Granularity::kHead, "head"}, {Granularity::kQuery, "query"}}}};
inline constexpr EnumTable<MaxEntropy, 2> kMaxEntropyNames{
    {{{MaxEntropy::kLogT, "log_t"}, {MaxEntropy::kCausal, "causal"}}}};
inline constexpr EnumTable<Statistics, 2> kStatisticsNames{
    {{{Statistics::kMicroStep, "micro_step"}, {Statistics::kPreviousStep, "previous_step"}}}};

// The entropy regulariser (EGA, Algorithm 1). λ here multiplies a mean over rows, heads and layers.
struct EntropyRegularizerConfig {
  Granularity granularity = Granularity::kHead;
  double strength = 0.164;  // λ ≥ 0
  double margin = 0.20;     // γ in [0, 1], a fraction of E_max
  MaxEntropy max_entropy = MaxEntropy::kLogT;
  Statistics statistics = Statistics::kMicroStep;
  int64_t start_step = 0;        // λ = 0 before this step
  int64_t warmup_steps = 0;      // then rises linearly to `strength` over so many steps
  double threshold_init = 0.35;  // θ, a fraction of E_max
};

struct ModelConfig {
  std::string architecture = "custom";  // the preset that it came from, for people to read
  int64_t layers = 12;
  int64_t heads = 12;
  int64_t width = 768;    // d, C
  int64_t context = 128;  // T
  int64_t vocab = 50257;

  BlockKind block = BlockKind::kSequential;
  Position position = Position::kLearned;
  double rotary_pct = 0.25;
  Norm block_norm = Norm::kLayerNorm;
  Norm final_norm = Norm::kLayerNorm;
  bool tie_word_embeddings = true;
  Ffn ffn = Ffn::kGelu;
  int64_t ffn_pruned = 0;
  bool ffn_scaling = false;
  WeightNorm ffn_weight_norm = WeightNorm::kNone;
  NormAxis weight_norm_axis = NormAxis::kOutput;
  Temperature temperature = Temperature::kNone;
  double temperature_init = 1e-2;
  double temperature_min = 1e-3;
  bool qk_bias = true;
  bool vo_bias = true;
  bool ffn_bias = true;
  bool residual_init_scale = true;
  std::optional<EntropyRegularizerConfig> entropy_regularizer;

  int64_t head_width() const { return width / heads; }  // D
  int64_t ffn_width() const { return 4 * width; }       // F
  int64_t padded_vocab() const { return (vocab + 127) / 128 * 128; }
  // r = ⌊rotary_pct · D⌋, made even by leaving the last odd dimension out.
  int64_t rotary_dims() const;
  bool layer_has_ffn(int64_t layer) const { return layer < layers - ffn_pruned; }

  // The first rule that does not hold, as "key = value: what is allowed".
  absl::Status Validate() const;
};

// Names of model.md's table: "sm-ln-g" ... "ereg", "pythia", and "sm-scfuffn-i4", "ereg-i6" for k pruned layers. Sets every
// architecture key; sizes (layers, heads, width, context, vocab) are left at their defaults.
// NotFound lists the names and the nearest one.
absl::StatusOr<ModelConfig> PresetArchitecture(std::string_view name);

// Names for help and messages; "-ik" stands for any k ≥ 1.
std::vector<std::string> PresetNames();

}  // namespace entrain

#endif  // ENTRAIN_MODEL_MODEL_CONFIG_H_
