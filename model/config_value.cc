#include "model/config_value.h"

#include <array>
#include <charconv>

namespace entrain {
namespace {

std::string FloatText(double value) {
  std::string text = ShortestDecimal(value);
  const bool integral = text.find_first_of(".en") == std::string::npos;  // "n": inf and nan
  return integral ? text + ".0" : text;
}

void AppendEscaped(char c, std::string* out) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(c);
  if (c == '"' || c == '\\') {
    *out += {'\\', c};
  } else if (byte < 0x20 || byte == 0x7f) {
    *out += {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
  } else {
    *out += c;
  }
}

struct TextOf {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const { return FloatText(value); }
  std::string operator()(const std::string& value) const { return QuotedText(value); }
  std::string operator()(const UnsupportedValue& value) const { return value.what; }
};

}  // namespace

std::string ToText(const ConfigValue& value) { return std::visit(TextOf{}, value); }

std::string QuotedText(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) AppendEscaped(c, &out);
  return out + "\"";
}

std::string ShortestDecimal(double value) {
  std::array<char, 32> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), result.ptr};
}

}  // namespace entrain
