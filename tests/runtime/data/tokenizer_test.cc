#include "runtime/data/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "tests/support/file_contents.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

std::unique_ptr<Tokenizer> Make(const std::string& spec) {
  auto tokenizer = MakeTokenizer(spec);
  CHECK(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// Loading the merges takes a while; the tests share them.
std::unique_ptr<Tokenizer> Gpt2() {
  static const Tokenizer& tokenizer = *Make("gpt2").release();
  return tokenizer.Clone();
}

std::vector<int32_t> Encode(Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids;
  tokenizer.Encode(text, &ids);
  return ids;
}

std::vector<int32_t> EncodeSpecial(Tokenizer& tokenizer, std::string_view text) {
  std::vector<int32_t> ids;
  tokenizer.EncodeWithSpecial(text, &ids);
  return ids;
}

std::vector<Json> GoldenRows(const std::string& name) {
  std::ifstream file(std::string(ENTRAIN_TEST_DATA_DIR) + "/gpt2/" + name);
  std::vector<Json> rows;
  for (std::string line; std::getline(file, line);) rows.push_back(Json::parse(line));
  return rows;
}

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

TEST(Gpt2TokenizerTest, EncodesTheGoldenStrings) {
  const auto tokenizer = Gpt2();
  const std::vector<Json> rows = GoldenRows("golden.jsonl");
  EXPECT_EQ(rows.size(), 58);
  for (const Json& row : rows) {
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(Encode(*tokenizer, text), ids) << row;
    EXPECT_EQ(Encode(*tokenizer, text), ids) << "from the cache: " << row;
    EXPECT_EQ(tokenizer->Decode(ids).value(), text);
  }
}

TEST(Gpt2TokenizerTest, EncodesTheGoldenSpecialTokens) {
  const auto tokenizer = Gpt2();
  const std::vector<Json> rows = GoldenRows("golden_special.jsonl");
  EXPECT_EQ(rows.size(), 11);
  for (const Json& row : rows) {
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(EncodeSpecial(*tokenizer, text), ids) << row;
    EXPECT_EQ(tokenizer->Decode(ids).value(), text);
  }
}

TEST(Gpt2TokenizerTest, DecodesTheGoldenIds) {
  const auto tokenizer = Gpt2();
  const std::vector<Json> rows = GoldenRows("golden_decode.jsonl");
  EXPECT_EQ(rows.size(), 20);
  for (const Json& row : rows) {
    EXPECT_EQ(tokenizer->Decode(row["ids"].get<std::vector<int32_t>>()).value(),
              FromHex(row["bytes_hex"]))
        << row;
  }
}

TEST(Gpt2TokenizerTest, TheShippedTextHasItsNumberOfTokens) {
  const auto tokenizer = Gpt2();
  std::ifstream file(ENTRAIN_SOURCE_DIR "/configs/demo/pycode-small.jsonl");
  std::vector<int32_t> ids;
  std::string all;
  for (std::string line; std::getline(file, line);) {
    const std::string text = Json::parse(line)["text"];
    tokenizer->Encode(text, &ids);
    all += text;
  }
  EXPECT_EQ(ids.size(), 535552);
  EXPECT_EQ(tokenizer->Decode(ids).value(), all);
}

TEST(Gpt2TokenizerTest, KnowsItsVocabulary) {
  const auto tokenizer = Gpt2();
  EXPECT_EQ(tokenizer->vocab_size(), 50257);
  EXPECT_EQ(tokenizer->end_of_text(), 50256);
  EXPECT_EQ(tokenizer->name(), "gpt2");
  std::vector<int32_t> all(50257);
  for (int32_t id = 0; id < 50257; ++id) {
    const std::string bytes = tokenizer->Decode(std::vector<int32_t>{id}).value();
    ASSERT_FALSE(bytes.empty()) << id;
  }
}

TEST(Gpt2TokenizerTest, AppendsToWhatIsThere) {
  const auto tokenizer = Gpt2();
  std::vector<int32_t> ids = {7};
  tokenizer->Encode(" Hello world", &ids);
  EXPECT_THAT(ids, ElementsAre(7, 18435, 995));
}

TEST(Gpt2TokenizerTest, ABadByteIsItsByteTokenAndNoLetterNumberOrSpace) {
  const auto tokenizer = Gpt2();
  const auto byte_id = [&](const char* bytes) { return Encode(*tokenizer, bytes).at(0); };
  for (int byte = 0x80; byte < 0x100; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    const std::vector<int32_t> ids = Encode(*tokenizer, text);
    ASSERT_EQ(ids.size(), 1) << byte;
    EXPECT_LT(ids[0], 256);
    EXPECT_EQ(tokenizer->Decode(ids).value(), text);
  }
  // E2 82 would be merged in the euro sign; cut off, its bytes stay on their own.
  EXPECT_EQ(Encode(*tokenizer, "\xE2\x82").size(), 2);
  EXPECT_THAT(Encode(*tokenizer, "Hello\xFFworld"),
              ElementsAre(byte_id("Hello"), byte_id("\xFF"), byte_id("world")));
  // Two spaces before a bad byte: one word of white space, then the other space with the byte.
  EXPECT_THAT(Encode(*tokenizer, "x  \xFF"), ElementsAre(87, 220, 220, 187));
  // Before a word of letters a lone bad byte does not take the letters' space.
  EXPECT_THAT(Encode(*tokenizer, "\xFF Hello"), ElementsAre(187, 18435));
}

TEST(Gpt2TokenizerTest, AnyBytesRoundTrip) {
  const auto tokenizer = Gpt2();
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    std::string text(random() % 200, '\0');
    for (char& byte : text) byte = static_cast<char>(random());
    const std::vector<int32_t> ids = Encode(*tokenizer, text);
    ASSERT_EQ(tokenizer->Decode(ids).value(), text);
    ASSERT_EQ(Encode(*tokenizer, text), ids) << "from the cache";
  }
}

TEST(Gpt2TokenizerTest, PiecesOfUnicodeRoundTrip) {
  const auto tokenizer = Gpt2();
  std::mt19937 random(12);
  const std::vector<std::string> pieces = {"é",        "中文",
                                           "😀",        " ",
                                           "  ",       "\n",
                                           "'s",       "'",
                                           "Hello",    "12",
                                           "½",        "\u00A0",
                                           "\u3000",   "\xFF",
                                           "\xE2",     "\x82",
                                           "\xF0\x9F", "<|endoftext|>",
                                           "<|",       std::string(1, '\0')};
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (auto count = random() % 12; count > 0; --count) text += pieces[random() % pieces.size()];
    ASSERT_EQ(tokenizer->Decode(Encode(*tokenizer, text)).value(), text);
    ASSERT_EQ(tokenizer->Decode(EncodeSpecial(*tokenizer, text)).value(), text);
  }
}

TEST(Gpt2TokenizerTest, TheCacheChangesNothing) {
  const auto used = Gpt2();
  std::mt19937 random(13);
  std::vector<std::string> words;
  // More words than the cache has places, so that they push each other out.
  for (int i = 0; i < 100000; ++i) {
    std::string word = " ";
    for (auto length = 1 + random() % 12; length > 0; --length) {
      word += static_cast<char>('a' + random() % 26);
    }
    words.push_back(word);
    Encode(*used, word);
  }
  const auto fresh = Gpt2();
  for (size_t i = 0; i < words.size(); i += 97) {
    ASSERT_EQ(Encode(*used, words[i]), Encode(*fresh, words[i])) << words[i];
  }
}

TEST(Gpt2TokenizerTest, LongRunsOfOneCharacterAreNotSlow) {
  const auto tokenizer = Gpt2();
  for (const std::string unit : {"a", " ", "\n", "é", "!", "\xFF", "x y"}) {
    std::string text;
    while (text.size() < 300000) text += unit;
    ASSERT_EQ(tokenizer->Decode(Encode(*tokenizer, text)).value(), text);
  }
}

TEST(Gpt2TokenizerTest, RefusesIdsOutsideTheVocabulary) {
  const auto tokenizer = Gpt2();
  for (const int32_t id : {-1, 50257, 2147483647}) {
    const auto text = tokenizer->Decode(std::vector<int32_t>{0, id});
    EXPECT_EQ(text.status().code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(text.status().message(),
              "token " + std::to_string(id) + " is not in the vocabulary: ids are 0 to 50256");
  }
}

TEST(ByteTokenizerTest, ATokenIsAByte) {
  const auto tokenizer = Make("byte");
  EXPECT_EQ(tokenizer->vocab_size(), 257);
  EXPECT_EQ(tokenizer->end_of_text(), 256);
  EXPECT_EQ(tokenizer->name(), "byte");
  EXPECT_THAT(Encode(*tokenizer, "A\xFF"), ElementsAre(65, 255));
  EXPECT_EQ(Encode(*tokenizer, "<|endoftext|>").size(), 13);
  EXPECT_THAT(EncodeSpecial(*tokenizer, "a<|endoftext|>b"), ElementsAre(97, 256, 98));
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{65, 255, 256}).value(), "A\xFF<|endoftext|>");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{257}).status().message(),
            "token 257 is not in the vocabulary: ids are 0 to 256");
  EXPECT_THAT(Encode(*tokenizer->Clone(), "B"), ElementsAre(66));
}

TEST(MakeTokenizerTest, TakesAMergesFileByItsPath) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/merges.txt";
  WriteFile(path, "#version: 0.2\na b\n");
  const auto tokenizer = Make(path);
  EXPECT_EQ(tokenizer->vocab_size(), 258);
  EXPECT_EQ(tokenizer->end_of_text(), 257);
  EXPECT_EQ(tokenizer->name(), path);
  EXPECT_THAT(EncodeSpecial(*tokenizer, "ab<|endoftext|>b"), ElementsAre(256, 257, 65));
}

TEST(MakeTokenizerTest, NamesWhatIsAllowed) {
  const auto tokenizer = MakeTokenizer("gpt3");
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(
      tokenizer.status().message(),
      "tokenizer 'gpt3' is neither gpt2, byte nor the path of a merges.txt file, did you mean "
      "'gpt2'?");
  const TemporaryFolder folder;
  EXPECT_EQ(MakeTokenizer(folder.path()).status().code(), absl::StatusCode::kNotFound);
  WriteFile(folder.path() + "/m", "not merges at all\n");
  EXPECT_THAT(std::string(MakeTokenizer(folder.path() + "/m").status().message()),
              HasSubstr("/m: line 1 is not a merge"));
}

TEST(FindGpt2MergesTest, LooksAtEntrainDataFirst) {
  const TemporaryFolder folder;
  ASSERT_EQ(setenv("ENTRAIN_DATA", folder.path().c_str(), 1), 0);
  EXPECT_NE(FindGpt2Merges().value(), folder.path() + "/gpt2/merges.txt");
  std::filesystem::create_directory(folder.path() + "/gpt2");
  WriteFile(folder.path() + "/gpt2/merges.txt", "a b\n");
  EXPECT_EQ(FindGpt2Merges().value(), folder.path() + "/gpt2/merges.txt");
  EXPECT_EQ(Make("gpt2")->vocab_size(), 258);
  ASSERT_EQ(unsetenv("ENTRAIN_DATA"), 0);
}

}  // namespace
}  // namespace entrain
