// ConfigKey: one key of a configuration struct, as data. A table of them drives parsing, writing,
// help and messages, so that a key's name, range and meaning stand in one place.
//
//   IntegerKey("layers", &ModelConfig::layers, {.min = 1}, "transformer blocks")
#ifndef ENTRAIN_MODEL_CONFIG_KEY_H_
#define ENTRAIN_MODEL_CONFIG_KEY_H_

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "model/config_value.h"
#include "runtime/base/enum_table.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace entrain {

template <typename Config>
struct ConfigKey {
  std::string name;
  std::string meaning;                    // a line for help, without a full stop
  std::string allowed;                    // what completes "must be ..."
  std::vector<std::string> choices = {};  // the allowed words, where there are such
  bool takes_text = false;                // a string or one of `choices`
  std::function<ConfigValue(const Config&)> get;
  std::function<bool(const ConfigValue&, Config*)> set;  // false, and nothing changed: not allowed
};

// Both ends belong to the range.
struct IntegerRange {
  int64_t min = 0;
  int64_t max = std::numeric_limits<int64_t>::max();
};

struct NumberRange {
  double min = 0.0;
  double max = std::numeric_limits<double>::infinity();
  bool min_excluded = false;
  bool max_excluded = false;
};

// "an integer >= 1", "an integer from 1 to 64", "a number > 0", "a number in [0, 1)".
std::string DescribeRange(const IntegerRange& range);
std::string DescribeRange(const NumberRange& range);

bool Contains(const IntegerRange& range, int64_t value);
// False for NaN and for infinities.
bool Contains(const NumberRange& range, double value);

// Sets `key` or returns InvalidArgument: "name = value: must be <allowed>", with the nearest choice
// of a misspelt word.
template <typename Config>
absl::Status SetKey(const ConfigKey<Config>& key, const ConfigValue& value, Config* config) {
  if (key.set(value, config)) return absl::OkStatus();
  // "ereg-ik" is a choice only with a number for k; to suggest it to its writer would be no help.
  const auto* word = std::get_if<std::string>(&value);
  const bool misspelt = word != nullptr && std::find(key.choices.begin(), key.choices.end(),
                                                     *word) == key.choices.end();
  return absl::InvalidArgumentError(key.name + " = " + ToText(value) + ": must be " + key.allowed +
                                    (misspelt ? DidYouMean(*word, key.choices) : ""));
}

// The key whose name is `name`, or null.
template <typename Keys>
auto FindKey(const Keys& keys, std::string_view name) -> decltype(keys.data()) {
  for (const auto& key : keys) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

template <typename Config>
ConfigKey<Config> BooleanKey(std::string name, bool Config::*field, std::string meaning) {
  return {.name = std::move(name),
          .meaning = std::move(meaning),
          .allowed = "true or false",
          .get = [field](const Config& config) -> ConfigValue { return config.*field; },
          .set =
              [field](const ConfigValue& value, Config* config) {
                const bool* flag = std::get_if<bool>(&value);
                if (flag != nullptr) config->*field = *flag;
                return flag != nullptr;
              }};
}

// `Integer`: int, int64_t or uint64_t; the range is cut to what fits it and TOML's signed 64 bits.
template <typename Config, typename Integer>
ConfigKey<Config> IntegerKey(std::string name, Integer Config::*field, IntegerRange range,
                             std::string meaning) {
  static_assert(std::is_integral_v<Integer>);
  if (sizeof(Integer) < sizeof(int64_t)) {
    range.max = std::min<int64_t>(range.max, std::numeric_limits<Integer>::max());
  }
  return {.name = std::move(name),
          .meaning = std::move(meaning),
          .allowed = DescribeRange(range),
          .get = [field](const Config& config) -> ConfigValue {
            return static_cast<int64_t>(config.*field);
          },
          .set =
              [field, range](const ConfigValue& value, Config* config) {
                const auto* number = std::get_if<int64_t>(&value);
                const bool allowed = number != nullptr && Contains(range, *number);
                if (allowed) config->*field = static_cast<Integer>(*number);
                return allowed;
              }};
}

// Takes integers too.
template <typename Config>
ConfigKey<Config> NumberKey(std::string name, double Config::*field, NumberRange range,
                            std::string meaning) {
  return {.name = std::move(name),
          .meaning = std::move(meaning),
          .allowed = DescribeRange(range),
          .get = [field](const Config& config) -> ConfigValue { return config.*field; },
          .set =
              [field, range](const ConfigValue& value, Config* config) {
                double number = std::numeric_limits<double>::quiet_NaN();
                if (const auto* whole = std::get_if<int64_t>(&value)) {
                  number = static_cast<double>(*whole);
                } else if (const auto* real = std::get_if<double>(&value)) {
                  number = *real;
                }
                const bool allowed = Contains(range, number);
                if (allowed) config->*field = number;
                return allowed;
              }};
}

template <typename Config>
ConfigKey<Config> StringKey(std::string name, std::string Config::*field, std::string meaning) {
  return {.name = std::move(name),
          .meaning = std::move(meaning),
          .allowed = "a string",
          .takes_text = true,
          .get = [field](const Config& config) -> ConfigValue { return config.*field; },
          .set =
              [field](const ConfigValue& value, Config* config) {
                const auto* text = std::get_if<std::string>(&value);
                if (text != nullptr) config->*field = *text;
                return text != nullptr;
              }};
}

template <typename Config, typename Enum, size_t kSize>
ConfigKey<Config> EnumKey(std::string name, Enum Config::*field,
                          const EnumTable<Enum, kSize>& names, std::string meaning) {
  std::string allowed = "one of";
  for (const std::string& choice : names.Names()) {
    allowed += (allowed.ends_with("of") ? " " : ", ") + choice;
  }
  return {.name = std::move(name),
          .meaning = std::move(meaning),
          .allowed = std::move(allowed),
          .choices = names.Names(),
          .takes_text = true,
          .get = [field, &names](const Config& config) -> ConfigValue {
            return std::string(names.Name(config.*field));
          },
          .set =
              [field, &names](const ConfigValue& value, Config* config) {
                const auto* word = std::get_if<std::string>(&value);
                const auto found = word != nullptr ? names.Find(*word) : std::nullopt;
                if (found) config->*field = *found;
                return found.has_value();
              }};
}

// The key of a part, as a key of the whole: `part(const Whole&)` gives the part by value or
// reference to read from, `mutable_part(Whole*)` a pointer to write to.
template <typename Whole, typename Part, typename Read, typename Write>
ConfigKey<Whole> KeyOfPart(const ConfigKey<Part>& key, Read part, Write mutable_part) {
  return {.name = key.name,
          .meaning = key.meaning,
          .allowed = key.allowed,
          .choices = key.choices,
          .takes_text = key.takes_text,
          .get = [get = key.get, part](const Whole& whole) { return get(part(whole)); },
          .set = [set = key.set, mutable_part](
                     const ConfigValue& value,
                     Whole* whole) { return set(value, mutable_part(whole)); }};
}

}  // namespace entrain

#endif  // ENTRAIN_MODEL_CONFIG_KEY_H_
