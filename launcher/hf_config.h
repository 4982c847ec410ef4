// config.json of a Hugging Face folder ↔ ModelConfig.
#ifndef ENTRAIN_LAUNCHER_HF_CONFIG_H_
#define ENTRAIN_LAUNCHER_HF_CONFIG_H_

#include <string>

#include "model/model_config.h"

namespace entrain {

// Reads GPT-2's own keys and the `entrain` object with the architecture keys; without that object the model is a plain
// GPT-2 (sm-ln-g with every bias). Refuses, naming path, key and value: what is no GPT-2, an unknown key or value in
// `entrain`, an activation that does not fit, n_inner other than 4·n_embd, a layer_norm_epsilon other than 1e-5, and keys of
// transformers that change what is computed (scale_attn_weights, scale_attn_by_inverse_layer_idx, add_cross_attention);
// its other keys are ignored. The architecture's name is that of the preset with the same keys, else "custom".
absl::StatusOr<ModelConfig> ParseHfConfig(const std::string& json, const std::string& path);

// The text of config.json: GPT-2's keys, `entrain` with every architecture key, and initialisation, ramp and statistics
// where they are not the defaults. ParseHfConfig gives `config` back, but for the name of an architecture of one's own.
std::string ToHfConfig(const ModelConfig& config);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_HF_CONFIG_H_
