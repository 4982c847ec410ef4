#include "runtime/base/enum_table.h"

#include <gtest/gtest.h>

namespace entrain {
namespace {

enum class Colour { kRed, kGreen, kUnlisted };
constexpr EnumTable<Colour, 2> kColourNames{{{{Colour::kRed, "red"}, {Colour::kGreen, "green"}}}};

TEST(EnumTable, NamesAndFindsBothWays) {
  static_assert(kColourNames.Name(Colour::kGreen) == "green");
  static_assert(kColourNames.Find("red") == Colour::kRed);
  EXPECT_EQ(kColourNames.Names(), (std::vector<std::string>{"red", "green"}));
}

TEST(EnumTable, UnknownNamesAndValues) {
  EXPECT_EQ(kColourNames.Find("Red"), std::nullopt);
  EXPECT_EQ(kColourNames.Find(""), std::nullopt);
  EXPECT_EQ(kColourNames.Name(Colour::kUnlisted), "?");
}

}  // namespace
}  // namespace entrain
