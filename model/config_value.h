// ConfigValue: what a configuration file says for a key, in no file format's terms.
#ifndef ENTRAIN_MODEL_CONFIG_VALUE_H_
#define ENTRAIN_MODEL_CONFIG_VALUE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace entrain {

// A value of a kind that no key takes: `what` is "an array", "a date", ...
struct UnsupportedValue {
  std::string what;
  bool operator==(const UnsupportedValue&) const = default;
};

using ConfigValue = std::variant<bool, int64_t, double, std::string, UnsupportedValue>;

// The value in TOML's syntax: true, 12, 0.001, "text"; numbers in the shortest form that reads back
// the same, a float always with a point or an exponent. An UnsupportedValue gives its `what`.
std::string ToText(const ConfigValue& value);

// `text` as a TOML basic string, quotes included.
std::string QuotedText(std::string_view text);

// The shortest decimal that reads back as the same double: "0.1", "1e-05", "3", "inf".
std::string ShortestDecimal(double value);

}  // namespace entrain

#endif  // ENTRAIN_MODEL_CONFIG_VALUE_H_
