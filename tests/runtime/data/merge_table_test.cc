#include "runtime/data/merge_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <vector>

#include "runtime/data/tokenizer.h"
#include "tests/support/file_contents.h"

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const MergeTable& Gpt2() {
  static const MergeTable& table = *new MergeTable(*MergeTable::Parse(
      ReadFile(ENTRAIN_SOURCE_DIR "/runtime/data/gpt2/merges.txt"), "merges.txt"));
  return table;
}

std::vector<int32_t> Encode(const MergeTable& table, std::string_view word) {
  std::vector<int32_t> ids;
  table.Encode(word, &ids);
  return ids;
}

// The definition, word by word: again and again the leftmost of the best pairs.
std::vector<int32_t> EncodeByDefinition(const MergeTable& table, std::string_view word) {
  std::vector<int32_t> ids;
  for (const char byte : word) ids.push_back(table.ByteId(static_cast<uint8_t>(byte)));
  for (;;) {
    int32_t best = MergeTable::kNoMerge;
    size_t at = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const int32_t merged = table.Merged(ids[i], ids[i + 1]);
      if (merged < best) {
        best = merged;
        at = i;
      }
    }
    if (best == MergeTable::kNoMerge) return ids;
    ids[at] = best;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(MergeTableTest, BytesHaveGpt2sOrder) {
  EXPECT_EQ(Gpt2().ByteId('!'), 0);
  EXPECT_EQ(Gpt2().ByteId('~'), 93);
  EXPECT_EQ(Gpt2().ByteId(161), 94);
  EXPECT_EQ(Gpt2().ByteId(172), 105);
  EXPECT_EQ(Gpt2().ByteId(174), 106);
  EXPECT_EQ(Gpt2().ByteId(255), 187);
  EXPECT_EQ(Gpt2().ByteId(0), 188);
  EXPECT_EQ(Gpt2().ByteId(32), 220);
  EXPECT_EQ(Gpt2().ByteId(127), 221);
  EXPECT_EQ(Gpt2().ByteId(160), 254);
  EXPECT_EQ(Gpt2().ByteId(173), 255);
  for (int byte = 0; byte < 256; ++byte) {
    const auto value = static_cast<uint8_t>(byte);
    EXPECT_EQ(Gpt2().Bytes(Gpt2().ByteId(value)), std::string(1, static_cast<char>(byte)));
  }
}

TEST(MergeTableTest, MergesFollowTheBytes) {
  EXPECT_EQ(Gpt2().size(), 50256);
  EXPECT_EQ(Gpt2().Bytes(256), " t");
  EXPECT_EQ(Gpt2().Bytes(257), " a");
  EXPECT_EQ(Gpt2().Bytes(50255), " gazed");
}

TEST(MergeTableTest, EarlierMergesGoFirstAndTheLeftmostOfEquals) {
  const auto table = MergeTable::Parse("#version: 0.2\na a\nb c\na b\n", "t");
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(Encode(*table, ""), ElementsAre());
  EXPECT_THAT(Encode(*table, "aaa"), ElementsAre(256, 64));
  EXPECT_THAT(Encode(*table, "abc"), ElementsAre(64, 257));
  EXPECT_THAT(Encode(*table, "aab"), ElementsAre(256, 65));
  EXPECT_THAT(Encode(*table, "ab"), ElementsAre(258));
}

TEST(MergeTableTest, AFirstLineIsAHeaderOnlyWhenItSaysVersion) {
  const auto table = MergeTable::Parse("# #\r\n## #\r\n", "t");
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(Encode(*table, "###"), ElementsAre(257));
}

TEST(MergeTableTest, WordsOfEveryLengthFollowTheDefinition) {
  std::mt19937 random(3);
  const std::string alphabets[] = {"a", "ab", "aehnorst ", " \n\t=-", "\xE4\xBD\xA0\xE5\xA5\xBD"};
  for (const std::string& alphabet : alphabets) {
    for (size_t length = 1; length < 200; length += length < 70 ? 1 : 13) {
      std::string word;
      while (word.size() < length) word += alphabet[random() % alphabet.size()];
      ASSERT_EQ(Encode(Gpt2(), word), EncodeByDefinition(Gpt2(), word)) << word;
    }
  }
}

TEST(MergeTableTest, ALongWordTakesNoQuadraticTime) {
  const auto seconds = [](size_t size) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_FALSE(Encode(Gpt2(), std::string(size, 'a')).empty());
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  // Eight times the length: 8 to 10 times the time, against 64 if it were quadratic.
  const double small = seconds(size_t{1} << 16);
  EXPECT_LT(seconds(size_t{1} << 19), 30 * small + 0.2);
}

struct BadMerges {
  const char* text;
  const char* message;
};

TEST(MergeTableTest, RefusesWhatIsNoMergesFile) {
  const BadMerges cases[] = {
      {"", "m.txt: no merges in it; expected a merges.txt in GPT-2's form"},
      {"#version: 0.2\n\n", "no merges in it"},
      {"#version: 0.2\na b c\n",
       "m.txt: line 2 is not a merge: expected two tokens with one space"},
      {"ab\n", "line 1 is not a merge: expected two tokens with one space between them"},
      {"a b\nab cd\n",
       "line 2 is not a merge: 'cd' is neither a byte in GPT-2's spelling nor made "
       "by an earlier line"},
      {"a \xFF\n", "is neither a byte"},
      {"a \xC4\n", "is neither a byte"},
      {"a \xC4\x41\n", "is neither a byte"},
      {"a \xE4\xBD\xA0\n", "is neither a byte"},
      {"a \xC7\xBF\n", "is neither a byte"},
      {"a \xC2\xA0\n", "is neither a byte"},
      {" a\n", "'' is neither a byte"},
      {"a b\na b\n", "line 2 is not a merge: an earlier line makes the same token"},
      {"a b\nb c\nab c\na bc\n", "line 4 is not a merge: an earlier line makes the same token"},
  };
  for (const BadMerges& bad : cases) {
    const auto table = MergeTable::Parse(bad.text, "m.txt");
    ASSERT_EQ(table.status().code(), absl::StatusCode::kInvalidArgument) << bad.text;
    EXPECT_THAT(std::string(table.status().message()), HasSubstr(bad.message));
  }
}

}  // namespace
}  // namespace entrain
