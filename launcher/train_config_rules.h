// Rules between keys, beyond the range of each.
#ifndef ENTRAIN_LAUNCHER_TRAIN_CONFIG_RULES_H_
#define ENTRAIN_LAUNCHER_TRAIN_CONFIG_RULES_H_

#include <optional>
#include <string>

#include "launcher/train_config.h"

namespace entrain {

struct RuleViolation {
  std::string section;
  std::string key;
  std::string message;  // "key = value: what is allowed"
};

// The first rule that does not hold.
std::optional<RuleViolation> FindRuleViolation(const TrainConfig& config);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TRAIN_CONFIG_RULES_H_
