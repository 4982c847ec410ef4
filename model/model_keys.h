// The keys of ModelConfig and of its regulariser: names, ranges, meanings, and where config.json
// holds them.
#ifndef ENTRAIN_MODEL_MODEL_KEYS_H_
#define ENTRAIN_MODEL_MODEL_KEYS_H_

#include <string>
#include <vector>

#include "model/config_key.h"
#include "model/model_config.h"

namespace entrain {

// Where the config.json of an exported model holds a key.
enum class ConfigJsonPlace {
  kGpt2,                  // at the top, under GPT-2's name
  kEntrain,               // in the `entrain` object (or its regulariser), always
  kEntrainUnlessDefault,  // there, but only where it differs from the default or is of use
};

template <typename Config>
struct ModelKey {
  ConfigKey<Config> key;
  ConfigJsonPlace place = ConfigJsonPlace::kEntrain;
  std::string gpt2_name = {};
  // Weights made with one value of the key do not fit a model with another, or mean something else
  // in it.
  bool fixed_by_weights = true;
};

// Every key but `architecture`, which only names a preset, and the regulariser. In the order in
// which they are written.
const std::vector<ModelKey<ModelConfig>>& ModelKeys();

const std::vector<ModelKey<EntropyRegularizerConfig>>& RegularizerKeys();

}  // namespace entrain

#endif  // ENTRAIN_MODEL_MODEL_KEYS_H_
