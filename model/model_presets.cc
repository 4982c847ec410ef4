// The named architectures: EGA's (arXiv 2501.03489) and AERO's (arXiv 2410.13060) ablations, and
// Pythia's.
#include <array>
#include <charconv>

#include "absl/strings/str_join.h"
#include "model/model_config.h"
#include "runtime/base/nearest_name.h"

namespace entrain {
namespace {

struct Preset {
  std::string_view name;
  Norm block_norm;
  Ffn ffn;
  bool ffn_scaling = false;
  WeightNorm ffn_weight_norm = WeightNorm::kNone;
  bool entropy_regularized = false;  // with a temperature a query
  bool every_bias = false;           // EGA's own have only those of q and k
  bool pythia = false;
  bool can_be_pruned = false;  // "-ik": the k deepest FFNs left out
};

constexpr auto kPresets = std::to_array<Preset>({
    {.name = "sm-ln-g", .block_norm = Norm::kLayerNorm, .ffn = Ffn::kGelu, .every_bias = true},
    {.name = "sm-ln-r", .block_norm = Norm::kLayerNorm, .ffn = Ffn::kRelu},
    {.name = "sm-ln", .block_norm = Norm::kLayerNorm, .ffn = Ffn::kIdentity},
    {.name = "sm-g", .block_norm = Norm::kNone, .ffn = Ffn::kGelu},
    {.name = "sm-r", .block_norm = Norm::kNone, .ffn = Ffn::kRelu},
    {.name = "sm", .block_norm = Norm::kNone, .ffn = Ffn::kIdentity},
    {.name = "sm-wnorm",
     .block_norm = Norm::kNone,
     .ffn = Ffn::kIdentity,
     .ffn_weight_norm = WeightNorm::kWeight},
    {.name = "sm-snorm",
     .block_norm = Norm::kNone,
     .ffn = Ffn::kIdentity,
     .ffn_weight_norm = WeightNorm::kSpectral},
    {.name = "sm-scffn", .block_norm = Norm::kNone, .ffn = Ffn::kIdentity, .ffn_scaling = true},
    {.name = "sm-scfuffn",
     .block_norm = Norm::kNone,
     .ffn = Ffn::kFused,
     .ffn_scaling = true,
     .can_be_pruned = true},
    {.name = "ereg",
     .block_norm = Norm::kNone,
     .ffn = Ffn::kFused,
     .ffn_scaling = true,
     .entropy_regularized = true,
     .can_be_pruned = true},
    {.name = "pythia",
     .block_norm = Norm::kLayerNorm,
     .ffn = Ffn::kGelu,
     .every_bias = true,
     .pythia = true},
});

ModelConfig ConfigOf(const Preset& preset) {
  ModelConfig config;
  config.architecture = preset.name;
  config.block_norm = preset.block_norm;
  config.ffn = preset.ffn;
  config.ffn_scaling = preset.ffn_scaling;
  config.ffn_weight_norm = preset.ffn_weight_norm;
  config.vo_bias = preset.every_bias;
  config.ffn_bias = preset.every_bias;
  // GPT-2's, and in kind Pythia's; EGA's architectures start with equal matrices everywhere.
  config.residual_init_scale = preset.every_bias;
  if (preset.entropy_regularized) {
    config.temperature = Temperature::kPerQuery;
    config.entropy_regularizer = EntropyRegularizerConfig{};
  }
  if (preset.pythia) {
    config.block = BlockKind::kParallel;
    config.position = Position::kRotary;
    config.tie_word_embeddings = false;
  }
  return config;
}

const Preset* FindPreset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (preset.name == name) return &preset;
  }
  return nullptr;
}

// k of a name that ends in "-ik", k ≥ 1 without leading zeros; nothing for any other.
std::optional<int64_t> PrunedSuffix(std::string_view suffix) {
  if (!suffix.starts_with("-i") || suffix.size() < 3 || suffix[2] < '1' || suffix[2] > '9') {
    return std::nullopt;
  }
  const char* const end = suffix.data() + suffix.size();
  int64_t k = 0;
  const auto [rest, error] = std::from_chars(suffix.data() + 2, end, k);
  if (rest != end || error != std::errc()) return std::nullopt;
  return k;
}

absl::Status UnknownPreset(std::string_view name) {
  const std::vector<std::string> names = PresetNames();
  return absl::NotFoundError("architecture = \"" + std::string(name) + "\": must be one of " +
                             absl::StrJoin(names, ", ") +
                             " (k: a number of layers, as in ereg-i6)" + DidYouMean(name, names));
}

}  // namespace

absl::StatusOr<ModelConfig> PresetArchitecture(std::string_view name) {
  if (const Preset* preset = FindPreset(name)) return ConfigOf(*preset);
  const size_t dash = name.rfind("-i");
  if (dash == std::string_view::npos) return UnknownPreset(name);
  const Preset* preset = FindPreset(name.substr(0, dash));
  const std::optional<int64_t> pruned = PrunedSuffix(name.substr(dash));
  if (preset == nullptr || !preset->can_be_pruned || !pruned) return UnknownPreset(name);
  ModelConfig config = ConfigOf(*preset);
  config.architecture = name;
  config.ffn_pruned = *pruned;
  return config;
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets) {
    names.emplace_back(preset.name);
    if (preset.can_be_pruned) names.push_back(std::string(preset.name) + "-ik");
  }
  return names;
}

}  // namespace entrain
