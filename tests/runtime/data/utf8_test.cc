#include "runtime/data/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace entrain {
namespace {

// UTF-8 of any number up to 21 bits, well-formed or not, by the general rule.
std::string Encoded(uint32_t code_point) {
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  const auto tail = [&](int shift) {
    return static_cast<char>(0x80 | ((code_point >> shift) & 0x3F));
  };
  if (code_point < 0x800) return {static_cast<char>(0xC0 | (code_point >> 6)), tail(0)};
  if (code_point < 0x10000) {
    return {static_cast<char>(0xE0 | (code_point >> 12)), tail(6), tail(0)};
  }
  return {static_cast<char>(0xF0 | (code_point >> 18)), tail(12), tail(6), tail(0)};
}

TEST(Utf8Test, EveryNumberOf21BitsIsJudgedByTheDefinition) {
  for (uint32_t code_point = 0; code_point < 0x200000; ++code_point) {
    const bool is_character =
        code_point <= 0x10FFFF && (code_point < 0xD800 || code_point > 0xDFFF);
    const std::string bytes = Encoded(code_point);
    ASSERT_EQ(ValidUtf8Prefix(bytes), is_character ? bytes.size() : 0) << std::hex << code_point;
  }
}

TEST(Utf8Test, EveryPairOfBytesIsJudgedByTheDefinition) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string bytes = {static_cast<char>(first), static_cast<char>(second)};
      size_t expected = 0;
      if (first < 0x80) expected = second < 0x80 ? 2 : 1;
      if (first >= 0xC2 && first <= 0xDF && (second & 0xC0) == 0x80) expected = 2;
      ASSERT_EQ(ValidUtf8Prefix(bytes), expected) << first << " " << second;
    }
  }
}

TEST(Utf8Test, StopsAtTheFirstBadByteWhereverItIs) {
  for (size_t length = 0; length < 40; ++length) {
    std::string text(length, 'x');
    EXPECT_TRUE(IsValidUtf8(text));
    for (size_t bad = 0; bad < length; ++bad) {
      std::string broken = text;
      broken[bad] = '\xFF';
      EXPECT_EQ(ValidUtf8Prefix(broken), bad) << length;
    }
  }
}

TEST(Utf8Test, RefusesOverlongAndCutSequences) {
  const std::string bad[] = {
      "\xC0\x80",         "\xC1\xBF",         "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xED\xA0\x80",
      "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x82",     "\xF0\x9F\x98",     "\x80"};
  for (const std::string& bytes : bad) EXPECT_EQ(ValidUtf8Prefix(bytes), 0) << bytes;
  EXPECT_EQ(ValidUtf8Prefix("ok \xE2\x82"), 3);
  EXPECT_EQ(ValidUtf8Prefix("\xE2\x82\xAC!"), 4);
}

}  // namespace
}  // namespace entrain
