#include "launcher/encode_command.h"

#include <cstdio>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "runtime/data/json_line.h"
#include "runtime/data/utf8.h"

namespace entrain {
namespace {

using Json = nlohmann::json;

std::string ToHex(const std::string& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * bytes.size());
  for (const char byte : bytes) {
    hex += kDigits[static_cast<uint8_t>(byte) >> 4];
    hex += kDigits[static_cast<uint8_t>(byte) & 15];
  }
  return hex;
}

int HexDigit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

std::optional<std::string> FromHex(const std::string& hex) {
  if (hex.size() % 2 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(hex.size() / 2);
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = HexDigit(hex[i]);
    const int low = HexDigit(hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes += static_cast<char>(16 * high + low);
  }
  return bytes;
}

// The bytes to encode that a line gives.
absl::StatusOr<std::string> InputBytes(const Json& object) {
  const bool has_text = object.contains("text");
  if (has_text == object.contains("bytes_hex")) {
    return absl::InvalidArgumentError(
        has_text ? R"(has both "text" and "bytes_hex"; give one of them)"
                 : R"(has neither "text" nor "bytes_hex"; give one of them)");
  }
  const char* const field = has_text ? "text" : "bytes_hex";
  const Json& value = object[field];
  if (!value.is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", field, "\" must be a string, found a JSON ", value.type_name()));
  }
  const auto& text = value.get_ref<const std::string&>();
  if (has_text) return text;
  std::optional<std::string> bytes = FromHex(text);
  if (bytes) return *std::move(bytes);
  return absl::InvalidArgumentError(
      "\"bytes_hex\" must be an even number of hexadecimal digits, two a byte");
}

// For a message. Arrays and objects by their kind: they may be long, and nested deeper than writing them out can go.
std::string Described(const Json& value) {
  if (value.is_structured()) return absl::StrCat("a JSON ", value.type_name());
  return value.dump(-1, ' ', true, Json::error_handler_t::replace);
}

absl::StatusOr<std::vector<int32_t>> InputIds(const Json& object) {
  const auto found = object.find("ids");
  if (found == object.end() || !found->is_array()) {
    return absl::InvalidArgumentError("needs \"ids\", an array of integers");
  }
  std::vector<int32_t> ids;
  ids.reserve(found->size());
  for (const Json& id : *found) {
    if (!id.is_number_integer()) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"ids\" must hold integers only, found ", Described(id)));
    }
    const auto value = id.get<int64_t>();
    // What no int32 holds is in no vocabulary; -1 is as wrong and is named by its true value here.
    if (value < 0 || value > std::numeric_limits<int32_t>::max()) {
      return absl::OutOfRangeError(absl::StrCat("token ", id.dump(), " is in no vocabulary"));
    }
    ids.push_back(static_cast<int32_t>(value));
  }
  return ids;
}

absl::StatusOr<std::string> EncodeLine(Tokenizer& tokenizer, bool special,
                                       const std::string& line) {
  ASSIGN_OR_RETURN(const Json object, ParseJsonObject(line));
  ASSIGN_OR_RETURN(const std::string bytes, InputBytes(object));
  std::vector<int32_t> ids;
  if (special) {
    tokenizer.EncodeWithSpecial(bytes, &ids);
  } else {
    tokenizer.Encode(bytes, &ids);
  }
  return Json{{"ids", ids}}.dump();
}

// As JSON on one line, whatever its reader takes for a line end: U+0085, U+2028 and U+2029, which JSON allows as they are,
// are line ends to some.
std::string TextJson(const std::string& text) {
  return absl::StrReplaceAll(
      Json{{"text", text}}.dump(),
      {{"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}});
}

absl::StatusOr<std::string> DecodeLine(const Tokenizer& tokenizer, bool hex,
                                       const std::string& line) {
  ASSIGN_OR_RETURN(const Json object, ParseJsonObject(line));
  ASSIGN_OR_RETURN(const std::vector<int32_t> ids, InputIds(object));
  ASSIGN_OR_RETURN(const std::string bytes, tokenizer.Decode(ids));
  if (hex || !IsValidUtf8(bytes)) return Json{{"bytes_hex", ToHex(bytes)}}.dump();
  return TextJson(bytes);
}

// Each line of `in` that is not blank through `translate`, to `out`.
absl::Status TranslateLines(
    std::istream& in, std::ostream& out,
    const std::function<absl::StatusOr<std::string>(const std::string&)>& translate) {
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const absl::StatusOr<std::string> translated = translate(line);
    if (!translated.ok()) {
      return absl::Status(translated.status().code(),
                          absl::StrCat("line ", number, ": ", translated.status().message()));
    }
    out << *translated << '\n' << std::flush;
    if (!out) return absl::UnavailableError("cannot write to the output");
  }
  if (in.bad()) return absl::UnavailableError("cannot read the input");
  return absl::OkStatus();
}

// std::cin takes an error of stdin, which it reads through, for the end.
absl::Status CheckStandardInput() {
  if (std::ferror(stdin) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "cannot read standard input; give a file or another command's output");
}

struct Arguments {
  std::string tokenizer = "gpt2";
  bool special = false;
  bool hex = false;
};

void AddTokenizerOption(CLI::App* command, Arguments* arguments) {
  command
      ->add_option("--tokenizer", arguments->tokenizer,
                   "gpt2, byte, or the path of a merges.txt in GPT-2's form")
      ->capture_default_str();
}

}  // namespace

void AddEncodeCommand(CLI::App& app, std::function<absl::Status()>* selected) {
  CLI::App* command =
      app.add_subcommand("encode",
                         "Turn text into token ids. Reads a JSON object a line from standard "
                         "input, {\"text\": ...} or "
                         "{\"bytes_hex\": ...}, and writes {\"ids\": [...]} for each.");
  auto arguments = std::make_shared<Arguments>();
  AddTokenizerOption(command, arguments.get());
  command->add_flag("--special", arguments->special,
                    "Take <|endoftext|> in the text for the special token");
  command->callback([arguments, selected] {
    *selected = [arguments]() -> absl::Status {
      ASSIGN_OR_RETURN(auto tokenizer, MakeTokenizer(arguments->tokenizer));
      RETURN_IF_ERROR(EncodeLines(*tokenizer, arguments->special, std::cin, std::cout));
      return CheckStandardInput();
    };
  });
}

void AddDecodeCommand(CLI::App& app, std::function<absl::Status()>* selected) {
  CLI::App* command = app.add_subcommand(
      "decode",
      "Turn token ids into text. Reads a JSON object a line from standard input, {\"ids\": [...]}, "
      "and writes {\"text\": ...} for each, or {\"bytes_hex\": ...} where the bytes are not "
      "UTF-8.");
  auto arguments = std::make_shared<Arguments>();
  AddTokenizerOption(command, arguments.get());
  command->add_flag("--hex", arguments->hex, "Write bytes_hex always");
  command->callback([arguments, selected] {
    *selected = [arguments]() -> absl::Status {
      ASSIGN_OR_RETURN(auto tokenizer, MakeTokenizer(arguments->tokenizer));
      RETURN_IF_ERROR(DecodeLines(*tokenizer, arguments->hex, std::cin, std::cout));
      return CheckStandardInput();
    };
  });
}

absl::Status EncodeLines(Tokenizer& tokenizer, bool special, std::istream& in, std::ostream& out) {
  return TranslateLines(
      in, out, [&](const std::string& line) { return EncodeLine(tokenizer, special, line); });
}

absl::Status DecodeLines(const Tokenizer& tokenizer, bool hex, std::istream& in,
                         std::ostream& out) {
  return TranslateLines(in, out,
                        [&](const std::string& line) { return DecodeLine(tokenizer, hex, line); });
}

}  // namespace entrain
