// What a configuration file and --set say, key by key, before any of it is applied. The only place
// that knows TOML.
#ifndef ENTRAIN_LAUNCHER_TRAIN_CONFIG_SOURCE_H_
#define ENTRAIN_LAUNCHER_TRAIN_CONFIG_SOURCE_H_

#include <string>
#include <vector>

#include "launcher/train_config_keys.h"
#include "runtime/base/status.h"

namespace entrain {

struct Assignment {
  const TrainConfigKey* key = nullptr;
  ConfigValue value;
  std::string where;  // "file:line:column" or "--set section.key=value"
};

// Appends the file's assignments, sorted by section and key. InvalidArgument names the place of
// what is no TOML, of a section or key that there is none of (with the nearest name, or the section
// that has it) and of a key given twice.
absl::Status ReadTomlText(const std::string& text, const std::string& source,
                          std::vector<Assignment>* assignments);

// Appends what one --set says: "section.key=value", the value in TOML's syntax or a bare word. A
// key that takes text takes any text as it stands.
absl::Status ReadOverride(const std::string& text, std::vector<Assignment>* assignments);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TRAIN_CONFIG_SOURCE_H_
