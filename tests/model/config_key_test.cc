#include "model/config_key.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

namespace entrain {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(ConfigValueTest, TextIsToml) {
  EXPECT_EQ(ToText(true), "true");
  EXPECT_EQ(ToText(int64_t{-3}), "-3");
  EXPECT_EQ(ToText(3.0), "3.0");
  EXPECT_EQ(ToText(-0.5), "-0.5");
  EXPECT_EQ(ToText(1e-8), "1e-08");
  EXPECT_EQ(ToText(1e300), "1e+300");
  EXPECT_EQ(ToText(kInfinity), "inf");
  EXPECT_EQ(ToText(std::nan("")), "nan");
  EXPECT_EQ(ToText(std::string("a")), "\"a\"");
  EXPECT_EQ(ToText(UnsupportedValue{"an array"}), "an array");
}

TEST(ConfigValueTest, DecimalsReadBackTheSame) {
  for (const double value : {0.1, 1.0 / 3.0, 5e-324, 1.7976931348623157e308, 123456789.125}) {
    EXPECT_EQ(std::strtod(ShortestDecimal(value).c_str(), nullptr), value);
  }
}

TEST(ConfigValueTest, QuotesAreEscaped) {
  EXPECT_EQ(QuotedText("a\"b\\c\n\x7f\xc3\xa4"), "\"a\\\"b\\\\c\\u000A\\u007F\xc3\xa4\"");
}

TEST(RangeTest, EndsAreInOrOutAsSaid) {
  const NumberRange half_open{.min = 0, .max = 1, .max_excluded = true};
  EXPECT_TRUE(Contains(half_open, 0.0));
  EXPECT_TRUE(Contains(half_open, std::nextafter(1.0, 0.0)));
  EXPECT_FALSE(Contains(half_open, 1.0));
  EXPECT_FALSE(Contains(half_open, -1e-300));
  EXPECT_FALSE(Contains(NumberRange{.min = 0, .min_excluded = true}, 0.0));
  EXPECT_FALSE(Contains(NumberRange{}, kInfinity));
  EXPECT_FALSE(Contains(NumberRange{}, std::nan("")));
  EXPECT_TRUE(Contains(IntegerRange{.min = 2, .max = 3}, 3));
  EXPECT_FALSE(Contains(IntegerRange{.min = 2, .max = 3}, 4));
  EXPECT_FALSE(Contains(IntegerRange{.min = 2, .max = 3}, 1));
}

TEST(RangeTest, IsDescribed) {
  EXPECT_EQ(DescribeRange(IntegerRange{.min = 1}), "an integer >= 1");
  EXPECT_EQ(DescribeRange(IntegerRange{.min = 1, .max = 4}), "an integer from 1 to 4");
  EXPECT_EQ(DescribeRange(NumberRange{}), "a number >= 0");
  EXPECT_EQ(DescribeRange(NumberRange{.min = 0, .min_excluded = true}), "a number > 0");
  EXPECT_EQ(DescribeRange(NumberRange{.min = 0, .max = 1}), "a number in [0, 1]");
  EXPECT_EQ(DescribeRange(NumberRange{.min = 0, .max = 1, .min_excluded = true}),
            "a number in (0, 1]");
  EXPECT_EQ(DescribeRange(NumberRange{.min = 0, .max = 0.5, .max_excluded = true}),
            "a number in [0, 0.5)");
}

struct Inner {
  int count = 1;
  double rate = 0.5;
};
struct Outer {
  Inner inner;
};

TEST(ConfigKeyTest, ARefusedValueChangesNothing) {
  const auto key = IntegerKey("count", &Inner::count, {.min = 1}, "");
  Inner inner;
  // Beyond an int, though within 64 bits.
  const absl::Status status = SetKey(key, int64_t{1} << 40, &inner);
  EXPECT_EQ(std::string(status.message()),
            "count = 1099511627776: must be an integer from 1 to 2147483647");
  EXPECT_EQ(inner.count, 1);
  EXPECT_TRUE(SetKey(key, int64_t{5}, &inner).ok());
  EXPECT_EQ(inner.count, 5);
}

TEST(ConfigKeyTest, ANumberTakesIntegersAnIntegerNoNumbers) {
  Inner inner;
  EXPECT_TRUE(SetKey(NumberKey("rate", &Inner::rate, {}, ""), int64_t{2}, &inner).ok());
  EXPECT_EQ(inner.rate, 2.0);
  EXPECT_FALSE(SetKey(IntegerKey("count", &Inner::count, {}, ""), 2.0, &inner).ok());
}

TEST(ConfigKeyTest, AKeyOfAPartWorksOnTheWhole) {
  const auto key = KeyOfPart<Outer>(
      IntegerKey("count", &Inner::count, {.min = 1}, "meaning"),
      [](const Outer& outer) -> const Inner& { return outer.inner; },
      [](Outer* outer) { return &outer->inner; });
  Outer outer;
  EXPECT_TRUE(SetKey(key, int64_t{9}, &outer).ok());
  EXPECT_EQ(outer.inner.count, 9);
  EXPECT_EQ(key.get(outer), ConfigValue(int64_t{9}));
  EXPECT_EQ(key.meaning, "meaning");
  EXPECT_FALSE(SetKey(key, int64_t{0}, &outer).ok());
}

}  // namespace
}  // namespace entrain
