// Every key of the configuration file, in the order of sections and keys in which they are written.
#ifndef ENTRAIN_LAUNCHER_TRAIN_CONFIG_KEYS_H_
#define ENTRAIN_LAUNCHER_TRAIN_CONFIG_KEYS_H_

#include <string>
#include <string_view>
#include <vector>

#include "launcher/train_config.h"
#include "model/config_key.h"

namespace entrain {

inline constexpr std::string_view kModelSection = "model";
inline constexpr std::string_view kRegularizerSection = "model.entropy_regularizer";
// The key of [model] that stands for the section's presence: "none", false, true, or the table
// itself.
inline constexpr std::string_view kRegularizerKey = "entropy_regularizer";

struct TrainConfigKey {
  std::string section;
  ConfigKey<TrainConfig> key;
  bool required = false;
  bool fixed_by_weights = false;  // with init_from the value is that of the folder
  // Sets what other keys refine, so it is applied before them wherever it stands: architecture,
  // init_from.
  bool comes_first = false;
};

const std::vector<TrainConfigKey>& TrainConfigKeys();

// "run", "model", "model.entropy_regularizer", "data", ...
const std::vector<std::string>& ConfigSections();

// Null when there is no such key.
const TrainConfigKey* FindTrainConfigKey(std::string_view section, std::string_view name);

// "[train] steps"
std::string KeyTitle(const TrainConfigKey& key);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TRAIN_CONFIG_KEYS_H_
