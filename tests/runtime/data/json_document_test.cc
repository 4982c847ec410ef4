#include "runtime/data/json_document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace entrain {
namespace {

using ::testing::HasSubstr;

TEST(JsonDocumentTest, TakesTextAndSplit) {
  const auto plain = ParseJsonDocument(R"({"text": "a\u00e9\n", "n": 1})", "text", "");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->text, "aé\n");
  EXPECT_FALSE(plain->split.has_value());
  const auto marked = ParseJsonDocument(R"({"body": "b", "part": "val"})", "body", "part");
  ASSERT_TRUE(marked.ok()) << marked.status();
  EXPECT_EQ(marked->text, "b");
  EXPECT_EQ(marked->split, Split::kVal);
  EXPECT_EQ(ParseJsonDocument(R"({"text":"","s":"train"})", "text", "s")->split, Split::kTrain);
  EXPECT_EQ(ParseJsonDocument(R"({"text":"","s":"valid"})", "text", "s")->split, Split::kVal);
  EXPECT_EQ(ParseJsonDocument(R"({"text":"","s":"validation"})", "text", "s")->split, Split::kVal);
}

struct BadLine {
  std::string line;
  const char* message;
};

TEST(JsonDocumentTest, SaysWhatIsWrong) {
  const BadLine cases[] = {
      {"{\"text\": \"a\xFF\"}", "not UTF-8: byte 12 of the line is 0xff; JSON must be UTF-8"},
      {"{\"text\": \"a",
       "not valid JSON: column 12: syntax error while parsing value - invalid string: missing "
       "closing quote"},
      {"{\"text\": \"a\"} x", "not valid JSON: column 15: "},
      {"{\"text\": \"\\ud800\"}", "not valid JSON: column 17: "},
      {"", "not valid JSON: column 1: "},
      {"[\"a\"]", "expected a JSON object, found a JSON array"},
      {"7", "expected a JSON object, found a JSON number"},
      {"{\"txet\": \"a\", \"b\": 1}", "no field 'text' (there are: b, txet), did you mean 'txet'?"},
      {"{}", "no field 'text' (there are: )"},
      {"{\"text\": 7}", "field 'text' must be a string and is a JSON number"},
      {"{\"text\": null}", "field 'text' must be a string and is a JSON null"},
  };
  for (const BadLine& bad : cases) {
    const auto document = ParseJsonDocument(bad.line, "text", "");
    EXPECT_EQ(document.status().code(), absl::StatusCode::kInvalidArgument) << bad.line;
    EXPECT_THAT(std::string(document.status().message()), HasSubstr(bad.message));
  }
  EXPECT_EQ(ParseJsonDocument(R"({"text":"a","split":"test"})", "text", "split").status().message(),
            "field 'split' is 'test'; allowed are train, val, valid, validation");
  EXPECT_EQ(ParseJsonDocument(R"({"text":"a"})", "text", "split").status().message(),
            "no field 'split' (there are: text)");
  EXPECT_EQ(ParseJsonDocument(R"({"text":"a","split":1})", "text", "split").status().message(),
            "field 'split' must be a string and is a JSON number");
}

TEST(JsonDocumentTest, AMessageDoesNotRepeatTheDocument) {
  const std::string line = "{\"text\": \"" + std::string(100000, 'x');
  EXPECT_LT(ParseJsonDocument(line, "text", "").status().message().size(), 200);
}

}  // namespace
}  // namespace entrain
