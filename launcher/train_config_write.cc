// ToToml and DescribeConfigKeys: the table of keys, written out.
#include "absl/strings/str_split.h"
#include "launcher/train_config.h"
#include "launcher/train_config_keys.h"

namespace entrain {
namespace {

constexpr size_t kHelpColumns = 96;

// The table itself stands for the switch where there is a regulariser, and the other way round.
bool IsWritten(const TrainConfigKey& key, const TrainConfig& config) {
  const bool regularized = config.model.entropy_regularizer.has_value();
  if (key.section == kRegularizerSection) return regularized;
  return key.key.name != kRegularizerKey || !regularized;
}

// `text` in lines of at most kHelpColumns, each indented.
std::string Indented(const std::string& text) {
  constexpr std::string_view kIndent = "      ";
  std::string out;
  std::string line;
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(text, ' '))) {
    if (!line.empty() && kIndent.size() + line.size() + 1 + word.size() > kHelpColumns) {
      out.append(kIndent).append(line).append("\n");
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return out.append(kIndent).append(line).append("\n");
}

std::string Description(const TrainConfigKey& key) {
  const std::string value =
      key.required ? "(to be given)" : "= " + ToText(key.key.get(TrainConfig{}));
  return "  " + key.key.name + " " + value + "\n" +
         Indented(key.key.meaning + " -- " + key.key.allowed);
}

}  // namespace

std::string ToToml(const TrainConfig& config) {
  std::string out;
  std::string section;
  for (const TrainConfigKey& key : TrainConfigKeys()) {
    if (!IsWritten(key, config)) continue;
    if (key.section != section) {
      out += (out.empty() ? "[" : "\n[") + key.section + "]\n";
      section = key.section;
    }
    out += key.key.name + " = " + ToText(key.key.get(config)) + "\n";
  }
  return out;
}

std::string DescribeConfigKeys() {
  std::string out;
  std::string section;
  for (const TrainConfigKey& key : TrainConfigKeys()) {
    if (key.section != section) {
      out += (out.empty() ? "[" : "\n[") + key.section + "]\n";
      section = key.section;
    }
    out += Description(key);
  }
  return out;
}

}  // namespace entrain
