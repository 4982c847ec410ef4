// Enums with names: one constexpr table an enum, used by configuration, files, help and messages alike.
//   inline constexpr EnumTable<Ffn, 4> kFfnNames{{{Ffn::kGelu, "gelu"}, ...}};
#ifndef ENTRAIN_RUNTIME_BASE_ENUM_TABLE_H_
#define ENTRAIN_RUNTIME_BASE_ENUM_TABLE_H_

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace entrain {

template <typename Enum, size_t kSize>
struct EnumTable {
  std::array<std::pair<Enum, std::string_view>, kSize> rows;

  constexpr std::string_view Name(Enum value) const {
    for (const auto& [row_value, name] : rows) {
      if (row_value == value) return name;
    }
    return "?";
  }

  constexpr std::optional<Enum> Find(std::string_view text) const {
    for (const auto& [value, name] : rows) {
      if (name == text) return value;
    }
    return std::nullopt;
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& row : rows) names.emplace_back(row.second);
    return names;
  }
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_BASE_ENUM_TABLE_H_
