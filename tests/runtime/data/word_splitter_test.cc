#include "runtime/data/word_splitter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <vector>

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

std::vector<std::string> Split(WordSplitter& splitter, std::string_view text) {
  splitter.Reset(text);
  std::vector<std::string> words;
  for (std::string_view word; splitter.Next(&word);) words.emplace_back(word);
  return words;
}

std::vector<std::string> Split(std::string_view text) {
  WordSplitter splitter;
  return Split(splitter, text);
}

TEST(WordSplitterTest, CutsWordsNumbersPunctuationAndContractions) {
  EXPECT_THAT(Split(""), ElementsAre());
  EXPECT_THAT(Split("Hello world, it's 42!"),
              ElementsAre("Hello", " world", ",", " it", "'s", " 42", "!"));
  EXPECT_THAT(
      Split("I'm you're he'll we've I'd can't"),
      ElementsAre("I", "'m", " you", "'re", " he", "'ll", " we", "'ve", " I", "'d", " can", "'t"));
  EXPECT_THAT(Split("IT'S 'st"), ElementsAre("IT", "'", "S", " '", "st"));
  EXPECT_THAT(Split("a1b"), ElementsAre("a", "1", "b"));
}

TEST(WordSplitterTest, LeavesTheLastSpaceToTheNextWord) {
  EXPECT_THAT(Split("a   b"), ElementsAre("a", "  ", " b"));
  EXPECT_THAT(Split("a   "), ElementsAre("a", "   "));
  EXPECT_THAT(Split("a\n\n  x"), ElementsAre("a", "\n\n ", " x"));
  EXPECT_THAT(Split("a\nb"), ElementsAre("a", "\n", "b"));
}

TEST(WordSplitterTest, SpaceIsUnicodeWhiteSpaceAndNothingElse) {
  for (const char* space : {"\t", "\n", "\v", "\f", "\r", "\u0085", "\u00A0", "\u1680", "\u2000",
                            "\u200A", "\u2028", "\u2029", "\u202F", "\u205F", "\u3000"}) {
    EXPECT_THAT(Split(std::string("!") + space + "!"), ElementsAre("!", space, "!"));
  }
  for (const char* other : {"\u001C", "\u001F", "\u180E", "\u200B", "\u200C", "\u2060", "\uFEFF"}) {
    EXPECT_THAT(Split(std::string("!") + other + "!"), ElementsAre(std::string("!") + other + "!"));
  }
}

// The characters of the property test, by class.
enum class Class { kSpace, kLetter, kNumber, kOther };
struct Character {
  const char* bytes;
  Class kind;
};
constexpr Character kAlphabet[] = {
    {" ", Class::kSpace},      {" ", Class::kSpace},      {"\n", Class::kSpace},
    {"\u00A0", Class::kSpace}, {"\u3000", Class::kSpace}, {"a", Class::kLetter},
    {"s", Class::kLetter},     {"l", Class::kLetter},     {"é", Class::kLetter},
    {"中", Class::kLetter},    {"𐐀", Class::kLetter},     {"1", Class::kNumber},
    {"½", Class::kNumber},     {"٣", Class::kNumber},     {"!", Class::kOther},
    {"'", Class::kOther},      {"'", Class::kOther},      {"\u180E", Class::kOther},
    {"\uFEFF", Class::kOther}, {"😀", Class::kOther},      {"\u0301", Class::kOther}};

using Text = std::vector<Character>;

// Characters of the word that begins at `i`, by the rules written out one after another.
size_t WordLength(const Text& text, size_t i) {
  const auto is = [&](size_t at, const char* bytes) {
    return at < text.size() && std::string(text[at].bytes) == bytes;
  };
  if (is(i, "'")) {
    if (is(i + 1, "s")) return 2;
    if (is(i + 1, "l") && is(i + 2, "l")) return 3;
  }
  const size_t first = is(i, " ") ? i + 1 : i;
  if (first < text.size() && text[first].kind != Class::kSpace) {
    size_t end = first;
    while (end < text.size() && text[end].kind == text[first].kind) ++end;
    return end - i;
  }
  size_t end = i;
  while (end < text.size() && text[end].kind == Class::kSpace) ++end;
  // White space gives its last character to a word that follows, if any of it is left.
  return end < text.size() && end - i > 1 ? end - i - 1 : end - i;
}

TEST(WordSplitterTest, AgreesWithTheRulesWrittenOutOnRandomText) {
  std::mt19937 random(7);
  WordSplitter splitter;
  for (int round = 0; round < 20000; ++round) {
    Text text(random() % 24);
    std::string bytes;
    for (Character& character : text) {
      character = kAlphabet[random() % std::size(kAlphabet)];
      bytes += character.bytes;
    }
    std::vector<std::string> expected;
    for (size_t i = 0; i < text.size();) {
      const size_t end = i + WordLength(text, i);
      std::string word;
      for (; i < end; ++i) word += text[i].bytes;
      expected.push_back(word);
    }
    ASSERT_THAT(Split(splitter, bytes), ElementsAreArray(expected)) << bytes;
  }
}

TEST(WordSplitterTest, RunsOfMegabytesAreOneWord) {
  constexpr size_t kRun = size_t{4} << 20;
  for (const std::string unit : {"a", "é", "中", " ", "\n", "\u3000", "7", "!", "😀"}) {
    std::string text;
    while (text.size() < kRun) text += unit;
    EXPECT_EQ(Split(text).size(), 1) << unit;
    const std::vector<std::string> words = Split(text + "\v1?");
    EXPECT_EQ(words.back(), "?") << unit;
    EXPECT_LE(words.size(), 4) << unit;
  }
}

TEST(WordSplitterTest, ACopySplitsOnItsOwn) {
  WordSplitter first;
  first.Reset("one two");
  std::string_view word;
  ASSERT_TRUE(first.Next(&word));
  WordSplitter second(first);
  EXPECT_THAT(Split(second, "x y"), ElementsAre("x", " y"));
  ASSERT_TRUE(first.Next(&word));
  EXPECT_EQ(word, " two");
}

}  // namespace
}  // namespace entrain
