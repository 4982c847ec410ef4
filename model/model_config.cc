#include "model/model_config.h"

#include <cmath>

#include "model/model_keys.h"

namespace entrain {
namespace {

absl::Status Refuse(const std::string& message) { return absl::InvalidArgumentError(message); }

std::string Said(std::string_view key, const ConfigValue& value) {
  return std::string(key) + " = " + ToText(value);
}

// A value is in range when its own key takes it.
template <typename Config>
absl::Status CheckRanges(const std::vector<ModelKey<Config>>& keys, const Config& config) {
  Config scratch = config;
  for (const ModelKey<Config>& key : keys) {
    RETURN_IF_ERROR(SetKey(key.key, key.key.get(config), &scratch));
  }
  return absl::OkStatus();
}

absl::Status CheckRotary(const ModelConfig& config) {
  if (config.position != Position::kRotary || config.rotary_dims() >= 2) return absl::OkStatus();
  return Refuse(Said("rotary_pct", config.rotary_pct) + ": leaves " +
                std::to_string(config.rotary_dims()) + " of " +
                std::to_string(config.head_width()) +
                " dimensions of a head (width / heads) to rotate; must leave at least 2");
}

absl::Status CheckTemperature(const ModelConfig& config) {
  if (config.temperature == Temperature::kNone) return absl::OkStatus();
  if (config.temperature_init >= config.temperature_min) return absl::OkStatus();
  return Refuse(Said("temperature_init", config.temperature_init) + ": must be at least " +
                Said("temperature_min", config.temperature_min));
}

}  // namespace

int64_t ModelConfig::rotary_dims() const {
  return static_cast<int64_t>(std::floor(rotary_pct * static_cast<double>(head_width()))) / 2 * 2;
}

absl::Status ModelConfig::Validate() const {
  RETURN_IF_ERROR(CheckRanges(ModelKeys(), *this));
  if (width % heads != 0) {
    return Refuse(Said("width", width) + ": must be divisible by " + Said("heads", heads));
  }
  if (ffn_pruned > layers) {
    return Refuse(Said("ffn_pruned", ffn_pruned) + ": must be at most " + Said("layers", layers));
  }
  RETURN_IF_ERROR(CheckRotary(*this));
  RETURN_IF_ERROR(CheckTemperature(*this));
  return entropy_regularizer ? CheckRanges(RegularizerKeys(), *entropy_regularizer)
                             : absl::OkStatus();
}

}  // namespace entrain
