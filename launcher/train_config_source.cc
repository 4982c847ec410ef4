#include "launcher/train_config_source.h"

#include <toml++/toml.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "runtime/base/nearest_name.h"

namespace entrain {
namespace {

absl::Status Refuse(const std::string& where, const std::string& message) {
  return absl::InvalidArgumentError(where + ": " + message);
}

std::string PlaceOf(const std::string& source, const toml::source_region& region) {
  return source + ":" + std::to_string(region.begin.line) + ":" +
         std::to_string(region.begin.column);
}

bool IsSection(const std::string& name) {
  const std::vector<std::string>& sections = ConfigSections();
  return std::find(sections.begin(), sections.end(), name) != sections.end();
}

std::vector<std::string> KeysOf(std::string_view section) {
  std::vector<std::string> names;
  for (const TrainConfigKey& key : TrainConfigKeys()) {
    if (key.section == section) names.push_back(key.key.name);
  }
  return names;
}

std::vector<std::string> SectionsWith(std::string_view name) {
  std::vector<std::string> sections;
  for (const TrainConfigKey& key : TrainConfigKeys()) {
    if (key.key.name == name) sections.push_back("[" + key.section + "]");
  }
  return sections;
}

// "; keys: a, b", or after a question " Keys: a, b".
std::string Listed(const std::string& advice, std::string title,
                   const std::vector<std::string>& names) {
  const bool question = advice.ends_with('?');
  if (question) title[0] = absl::ascii_toupper(static_cast<unsigned char>(title[0]));
  return advice + (question ? " " : "; ") + title + ": " + absl::StrJoin(names, ", ");
}

absl::Status UnknownSection(const std::string& where, const std::string& name) {
  return Refuse(where,
                "unknown section [" + name + "]" +
                    Listed(DidYouMean(name, ConfigSections()), "sections", ConfigSections()));
}

absl::Status UnknownKey(const std::string& where, const std::string& section,
                        const std::string& name) {
  const std::string place = section.empty() ? " outside any section" : " in [" + section + "]";
  const std::vector<std::string> names = KeysOf(section);
  const std::string meant = DidYouMean(name, names);
  const std::vector<std::string> elsewhere = SectionsWith(name);
  std::string advice = meant;
  if (meant.empty() && !elsewhere.empty()) {
    advice = "; it belongs to " + absl::StrJoin(elsewhere, " or ");
  }
  if (!section.empty()) advice = Listed(advice, "keys of [" + section + "]", names);
  return Refuse(where, "unknown key '" + name + "'" + place + advice);
}

ConfigValue ValueOf(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::boolean:
      return node.as_boolean()->get();
    case toml::node_type::integer:
      return node.as_integer()->get();
    case toml::node_type::floating_point:
      return node.as_floating_point()->get();
    case toml::node_type::string:
      return node.as_string()->get();
    case toml::node_type::array:
      return UnsupportedValue{"an array"};
    case toml::node_type::table:
      return UnsupportedValue{"a table"};
    default:
      return UnsupportedValue{"a date or time"};
  }
}

// toml++'s own message for a text that is no TOML.
absl::StatusOr<toml::table> ParseToml(std::string_view text, const std::string& source) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    return Refuse(PlaceOf(source, error.source()), std::string(error.description()));
  }
}

// Turns tables into assignments.
class TableWalk {
 public:
  TableWalk(const std::string& source, bool from_override, std::vector<Assignment>* assignments)
      : source_(source), from_override_(from_override), assignments_(assignments) {}

  absl::Status Walk(const toml::table& table, const std::string& section) {
    for (const auto& [key, node] : table) {
      RETURN_IF_ERROR(Visit(section, std::string(key.str()), Where(key.source()), node));
    }
    return absl::OkStatus();
  }

  absl::Status Visit(const std::string& section, const std::string& name, const std::string& where,
                     const toml::node& node) {
    const std::string inner = section.empty() ? name : section + "." + name;
    if (node.is_table() && IsSection(inner)) return Enter(inner, where, *node.as_table());
    if (section.empty() && node.is_table()) return UnknownSection(where, name);
    if (section.empty() && IsSection(name)) {
      return Refuse(where,
                    name + " = " + ToText(ValueOf(node)) + ": must be a section [" + name + "]");
    }
    const TrainConfigKey* key = FindTrainConfigKey(section, name);
    if (key == nullptr) return UnknownKey(where, section, name);
    assignments_->push_back({key, ValueOf(node), where});
    return absl::OkStatus();
  }

 private:
  // The regulariser's table, even an empty one, is itself a value: there is a regulariser.
  absl::Status Enter(const std::string& section, const std::string& where,
                     const toml::table& table) {
    if (section == kRegularizerSection) {
      assignments_->push_back({FindTrainConfigKey(kModelSection, kRegularizerKey), true, where});
    }
    return Walk(table, section);
  }

  // Lines and columns inside a --set say nothing to its writer.
  std::string Where(const toml::source_region& region) const {
    return from_override_ ? source_ : PlaceOf(source_, region);
  }

  const std::string& source_;
  bool from_override_;
  std::vector<Assignment>* assignments_;
};

// The value of a --set: TOML where it is TOML, else the bare text.
absl::StatusOr<toml::table> ParseOverrideValue(const std::string& text, bool as_text,
                                               const std::string& where) {
  absl::StatusOr<toml::table> table = ParseToml("value = " + text, where);
  const bool one_value = table.ok() && table->size() == 1;
  if (one_value && (!as_text || table->get("value")->is_string())) return table;
  table = ParseToml("value = " + QuotedText(text), where);
  if (!table.ok()) return Refuse(where, "the value must be UTF-8 text");
  return table;
}

}  // namespace

absl::Status ReadTomlText(const std::string& text, const std::string& source,
                          std::vector<Assignment>* assignments) {
  ASSIGN_OR_RETURN(const toml::table table, ParseToml(text, source));
  return TableWalk(source, false, assignments).Walk(table, "");
}

absl::Status ReadOverride(const std::string& text, std::vector<Assignment>* assignments) {
  // A message is one line, whatever was typed.
  const std::string where = "--set " + absl::StrReplaceAll(text, {{"\n", "\\n"}, {"\r", "\\r"}});
  const size_t equals = text.find('=');
  if (equals == std::string::npos) {
    return Refuse(where, "must be section.key=value, as in train.steps=100");
  }
  const std::string path = text.substr(0, equals);
  const size_t dot = path.rfind('.');
  if (dot == std::string::npos) {
    const std::vector<std::string> sections = SectionsWith(path);
    return Refuse(where, "must name the section: section.key=value" +
                             (sections.empty() ? ""
                                               : "; '" + path + "' is a key of " +
                                                     absl::StrJoin(sections, " and ")));
  }
  const std::string section = path.substr(0, dot);
  const std::string name = path.substr(dot + 1);
  if (!IsSection(section)) return UnknownSection(where, section);
  const TrainConfigKey* key = FindTrainConfigKey(section, name);
  ASSIGN_OR_RETURN(
      const toml::table table,
      ParseOverrideValue(text.substr(equals + 1), key != nullptr && key->key.takes_text, where));
  return TableWalk(where, true, assignments).Visit(section, name, where, *table.get("value"));
}

}  // namespace entrain
