#include "runtime/data/json_line.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/data/utf8.h"

namespace entrain {
namespace {

using Json = nlohmann::json;

// Of "[json.exception.parse_error.101] parse error at line 1, column 7: REASON; last read: 'ALL OF THE STRING SO FAR'" the
// column and the reason; the library always says line 1 here, and what it read last may be a whole document.
std::string ParserReason(const Json::exception& error) {
  std::string reason = error.what();
  if (const size_t last_read = reason.find("; last read: "); last_read != std::string::npos) {
    reason.resize(last_read);
  }
  if (const size_t column = reason.find("column "); column != std::string::npos) {
    reason.erase(0, column);
  } else if (const size_t bracket = reason.find("] "); bracket != std::string::npos) {
    reason.erase(0, bracket + 2);
  }
  return reason;
}

}  // namespace

absl::StatusOr<Json> ParseJsonObject(std::string_view line) {
  if (const size_t valid = ValidUtf8Prefix(line); valid < line.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "not UTF-8: byte ", valid + 1, " of the line is 0x",
        absl::Hex(static_cast<uint8_t>(line[valid]), absl::kZeroPad2), "; JSON must be UTF-8"));
  }
  try {
    Json json = Json::parse(line);
    if (json.is_object()) return json;
    return absl::InvalidArgumentError(
        absl::StrCat("expected a JSON object, found a JSON ", json.type_name()));
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("not valid JSON: ", ParserReason(error)));
  }
}

}  // namespace entrain
