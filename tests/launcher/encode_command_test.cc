#include "launcher/encode_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

namespace entrain {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

std::unique_ptr<Tokenizer> Make(const std::string& spec) {
  auto tokenizer = MakeTokenizer(spec);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

struct Result {
  absl::Status status;
  std::string out;
};

Result Encode(const std::string& input, bool special = false, const std::string& spec = "byte") {
  std::istringstream in(input);
  std::ostringstream out;
  absl::Status status = EncodeLines(*Make(spec), special, in, out);
  return {std::move(status), out.str()};
}

Result Decode(const std::string& input, bool hex = false, const std::string& spec = "byte") {
  std::istringstream in(input);
  std::ostringstream out;
  absl::Status status = DecodeLines(*Make(spec), hex, in, out);
  return {std::move(status), out.str()};
}

TEST(EncodeLinesTest, TakesTextOrHex) {
  const Result result = Encode(
      "{\"text\": \"a\\u00e9\"}\n\n  \r\n{\"bytes_hex\": \"fF0a\", \"ids\": [1]}\n{\"text\": "
      "\"\"}");
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.out, "{\"ids\":[97,195,169]}\n{\"ids\":[255,10]}\n{\"ids\":[]}\n");
}

TEST(EncodeLinesTest, TheSpecialTokenOnRequestOnly) {
  EXPECT_EQ(Encode("{\"text\": \"<|endoftext|>\"}", true).out, "{\"ids\":[256]}\n");
  EXPECT_THAT(Encode("{\"text\": \"<|endoftext|>\"}", false).out, HasSubstr("{\"ids\":[60,124,"));
}

TEST(EncodeLinesTest, TheGoldenFilesGoThroughAndBack) {
  for (const bool special : {false, true}) {
    std::ifstream rows(std::string(ENTRAIN_TEST_DATA_DIR) +
                       (special ? "/gpt2/golden_special.jsonl" : "/gpt2/golden.jsonl"));
    std::stringstream encoded;
    ASSERT_TRUE(EncodeLines(*Make("gpt2"), special, rows, encoded).ok());
    std::stringstream decoded;
    ASSERT_TRUE(DecodeLines(*Make("gpt2"), false, encoded, decoded).ok());
    encoded.clear();
    encoded.seekg(0);
    rows.clear();
    rows.seekg(0);
    std::string line;
    for (std::string row; std::getline(rows, row);) {
      const Json expected = Json::parse(row);
      ASSERT_TRUE(std::getline(encoded, line));
      EXPECT_EQ(Json::parse(line), (Json{{"ids", expected["ids"]}}));
      ASSERT_TRUE(std::getline(decoded, line));
      EXPECT_EQ(Json::parse(line), (Json{{"text", expected["text"]}}));
    }
  }
}

struct BadInput {
  const char* line;
  absl::StatusCode code;
  const char* message;
};

TEST(EncodeLinesTest, NamesTheLineAndWhatIsWrong) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const BadInput cases[] = {
      {"nonsense", invalid, "line 3: not valid JSON: column "},
      {"[1]", invalid, "line 3: expected a JSON object, found a JSON array"},
      {"{\"txt\": \"a\"}", invalid, "line 3: has neither \"text\" nor \"bytes_hex\""},
      {"{\"text\": \"a\", \"bytes_hex\": \"00\"}", invalid, "has both \"text\" and \"bytes_hex\""},
      {"{\"text\": 7}", invalid, "\"text\" must be a string, found a JSON number"},
      {"{\"bytes_hex\": [0]}", invalid, "\"bytes_hex\" must be a string, found a JSON array"},
      {"{\"bytes_hex\": \"abc\"}", invalid, "must be an even number of hexadecimal digits"},
      {"{\"bytes_hex\": \"0g\"}", invalid, "must be an even number of hexadecimal digits"},
      {"{\"text\": \"\xFF\"}", invalid, "line 3: not UTF-8: byte 11 of the line is 0xff"},
  };
  for (const BadInput& bad : cases) {
    const Result result = Encode(std::string("{\"text\": \"a\"}\n\n") + bad.line + "\n");
    EXPECT_EQ(result.status.code(), bad.code) << bad.line;
    EXPECT_THAT(std::string(result.status.message()), HasSubstr(bad.message));
    EXPECT_EQ(result.out, "{\"ids\":[97]}\n") << "what came before is done";
  }
}

TEST(DecodeLinesTest, WritesTextWhereItIsUtf8) {
  const Result result = Decode("{\"ids\": [97, 195, 169]}\n{\"ids\": [195]}\n{\"ids\": []}\n");
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.out, "{\"text\":\"aé\"}\n{\"bytes_hex\":\"c3\"}\n{\"text\":\"\"}\n");
  EXPECT_EQ(Decode("{\"ids\": [97, 255]}", true).out, "{\"bytes_hex\":\"61ff\"}\n");
}

TEST(DecodeLinesTest, EscapesWhatSomeReadersTakeForALineEnd) {
  const std::string text = "a\n\u000b\u001c\u0085\u2028\u2029b";
  const std::string decoded = Decode(Encode(Json{{"text", text}}.dump()).out).out;
  EXPECT_EQ(decoded, "{\"text\":\"a\\n\\u000b\\u001c\\u0085\\u2028\\u2029b\"}\n");
  EXPECT_EQ(Json::parse(decoded)["text"], text);
}

TEST(DecodeLinesTest, DecodesTheGoldenIds) {
  std::ifstream rows(std::string(ENTRAIN_TEST_DATA_DIR) + "/gpt2/golden_decode.jsonl");
  std::stringstream out;
  ASSERT_TRUE(DecodeLines(*Make("gpt2"), true, rows, out).ok());
  rows.clear();
  rows.seekg(0);
  std::string line;
  for (std::string row; std::getline(rows, row);) {
    ASSERT_TRUE(std::getline(out, line));
    EXPECT_EQ(Json::parse(line)["bytes_hex"], Json::parse(row)["bytes_hex"]);
  }
}

TEST(DecodeLinesTest, NamesTheLineAndWhatIsWrong) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto range = absl::StatusCode::kOutOfRange;
  const BadInput cases[] = {
      {"{\"id\": [1]}", invalid, "line 2: needs \"ids\", an array of integers"},
      {"{\"ids\": 7}", invalid, "line 2: needs \"ids\", an array of integers"},
      {"{\"ids\": [1, \"x\"]}", invalid, "line 2: \"ids\" must hold integers only, found \"x\""},
      {"{\"ids\": [1.5]}", invalid, "found 1.5"},
      {"{\"ids\": [[1]]}", invalid, "\"ids\" must hold integers only, found a JSON array"},
      {"{\"ids\": [257]}", range, "line 2: token 257 is not in the vocabulary: ids are 0 to 256"},
      {"{\"ids\": [-1]}", range, "line 2: token -1 is in no vocabulary"},
      {"{\"ids\": [99999999999]}", range, "line 2: token 99999999999 is in no vocabulary"},
      {"{\"ids\": [18446744073709551615]}", range,
       "token 18446744073709551615 is in no vocabulary"},
  };
  for (const BadInput& bad : cases) {
    const Result result = Decode(std::string("{\"ids\": [97]}\n") + bad.line + "\n");
    EXPECT_EQ(result.status.code(), bad.code) << bad.line;
    EXPECT_THAT(std::string(result.status.message()), HasSubstr(bad.message));
    EXPECT_EQ(result.out, "{\"text\":\"a\"}\n");
  }
}

TEST(DecodeLinesTest, RefusesWhatIsNestedBeyondAllDepth) {
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  EXPECT_EQ(Decode("{\"ids\": [" + deep + "]}").status.message(),
            "line 1: \"ids\" must hold integers only, found a JSON array");
}

TEST(EncodeLinesTest, SaysWhenTheOutputIsGone) {
  std::istringstream in("{\"text\": \"a\"}\n");
  std::ostringstream out;
  out.setstate(std::ios::badbit);
  EXPECT_EQ(EncodeLines(*Make("byte"), false, in, out).message(), "cannot write to the output");
}

TEST(EncodeCommandTest, ParsesItsOptions) {
  CLI::App app;
  std::function<absl::Status()> selected;
  AddEncodeCommand(app, &selected);
  AddDecodeCommand(app, &selected);
  app.parse("encode --tokenizer no-such --special");
  ASSERT_TRUE(selected);
  EXPECT_EQ(selected().code(), absl::StatusCode::kNotFound);
  selected = nullptr;
  app.parse("decode --tokenizer no-such --hex");
  ASSERT_TRUE(selected);
  EXPECT_EQ(selected().code(), absl::StatusCode::kNotFound);
  EXPECT_THROW(app.parse("encode --hex"), CLI::ParseError);
}

}  // namespace
}  // namespace entrain
