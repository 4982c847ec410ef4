// LoadTrainConfig: from what file and --set say to a configuration that holds together.
#include <algorithm>
#include <map>

#include "launcher/model_files.h"
#include "launcher/train_config.h"
#include "launcher/train_config_keys.h"
#include "launcher/train_config_rules.h"
#include "launcher/train_config_source.h"
#include "runtime/io/file_system.h"

namespace entrain {
namespace {

std::string MessageOf(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

absl::Status Apply(const Assignment& assignment, TrainConfig* config) {
  absl::Status status = SetKey(assignment.key->key, assignment.value, config);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(assignment.where + ": [" + assignment.key->section + "] " +
                                    MessageOf(status));
}

// True when every key that weights fix is given: then the file is complete, as ToToml writes it,
// and can be read where the folder of init_from no longer is.
bool GivesWholeModel(const std::vector<Assignment>& assignments) {
  const std::vector<TrainConfigKey>& keys = TrainConfigKeys();
  return std::all_of(keys.begin(), keys.end(), [&](const TrainConfigKey& key) {
    return !key.fixed_by_weights ||
           std::any_of(assignments.begin(), assignments.end(),
                       [&](const Assignment& assignment) { return assignment.key == &key; });
  });
}

class ConfigBuilder {
 public:
  ConfigBuilder(std::vector<Assignment> assignments, std::string source)
      : assignments_(std::move(assignments)), source_(std::move(source)) {}

  absl::StatusOr<TrainConfig> Build() {
    RETURN_IF_ERROR(ApplyWhere(true));
    if (!config_.init_from.empty() && !GivesWholeModel(assignments_)) {
      RETURN_IF_ERROR(TakeModelOfFolder());
    }
    RETURN_IF_ERROR(ApplyWhere(false));
    RETURN_IF_ERROR(CheckWhatFolderFixes());
    RETURN_IF_ERROR(CheckRules());
    return config_;
  }

 private:
  absl::Status ApplyWhere(bool comes_first) {
    for (const Assignment& assignment : assignments_) {
      if (assignment.key->comes_first != comes_first) continue;
      RETURN_IF_ERROR(Apply(assignment, &config_));
    }
    return absl::OkStatus();
  }

  absl::Status TakeModelOfFolder() {
    const absl::StatusOr<ModelConfig> model =
        ReadModelFolderConfig(FileSystem::Posix(), config_.init_from);
    if (!model.ok()) {
      return {model.status().code(), WhereIs("model", "init_from") +
                                         ": [model] init_from = " + QuotedText(config_.init_from) +
                                         ": " + MessageOf(model.status())};
    }
    named_architecture_ = config_.model.architecture;
    config_.model = *model;
    of_folder_ = config_;
    return absl::OkStatus();
  }

  // Whether the key is given again, as by --set over the file.
  bool IsOverridden(const Assignment& assignment) const {
    return &assignment != LastOf(assignment.key);
  }

  // Where the key was last given; null when it was not.
  const Assignment* LastOf(const TrainConfigKey* key) const {
    const auto found = std::find_if(assignments_.rbegin(), assignments_.rend(),
                                    [key](const Assignment& other) { return other.key == key; });
    return found == assignments_.rend() ? nullptr : &*found;
  }

  // A key that restates the folder's value is harmless; one that contradicts it is not.
  absl::Status CheckWhatFolderFixes() const {
    if (!of_folder_) return absl::OkStatus();
    for (const Assignment& assignment : assignments_) {
      const TrainConfigKey& key = *assignment.key;
      if (!key.fixed_by_weights || IsOverridden(assignment)) continue;
      TrainConfig asked = *of_folder_;
      if (key.comes_first) {
        asked.model.architecture = named_architecture_;
      } else {
        RETURN_IF_ERROR(Apply(assignment, &asked));
      }
      const ConfigValue fixed = key.key.get(*of_folder_);
      if (key.key.get(asked) != fixed) return Contradiction(assignment, fixed);
    }
    return absl::OkStatus();
  }

  absl::Status Contradiction(const Assignment& assignment, const ConfigValue& fixed) const {
    return absl::InvalidArgumentError(assignment.where + ": " + KeyTitle(*assignment.key) + " = " +
                                      ToText(assignment.value) + ": must be " + ToText(fixed) +
                                      ", which " + JoinPath(config_.init_from, "config.json") +
                                      " says; remove the key, or init_from");
  }

  absl::Status CheckRules() const {
    const std::optional<RuleViolation> violation = FindRuleViolation(config_);
    if (!violation) return absl::OkStatus();
    return absl::InvalidArgumentError(WhereIs(violation->section, violation->key) + ": [" +
                                      violation->section + "] " + violation->message);
  }

  // Where the key was last given; the file when it was not.
  std::string WhereIs(const std::string& section, const std::string& key) const {
    const Assignment* last = LastOf(FindTrainConfigKey(section, key));
    return last == nullptr ? source_ : last->where;
  }

  std::vector<Assignment> assignments_;
  std::string source_;
  TrainConfig config_;
  std::optional<TrainConfig> of_folder_;
  std::string named_architecture_;
};

}  // namespace

absl::StatusOr<TrainConfig> ParseTrainConfig(const std::string& text, const std::string& source,
                                             const std::vector<std::string>& overrides) {
  std::vector<Assignment> assignments;
  RETURN_IF_ERROR(ReadTomlText(text, source, &assignments));
  for (const std::string& set : overrides) RETURN_IF_ERROR(ReadOverride(set, &assignments));
  return ConfigBuilder(std::move(assignments), source).Build();
}

absl::StatusOr<TrainConfig> LoadTrainConfig(const std::string& path,
                                            const std::vector<std::string>& overrides) {
  ASSIGN_OR_RETURN(const std::string text, FileSystem::Posix().ReadText(path));
  return ParseTrainConfig(text, path, overrides);
}

}  // namespace entrain
