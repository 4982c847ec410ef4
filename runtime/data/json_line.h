// One line of JSON Lines, parsed.
#ifndef ENTRAIN_RUNTIME_DATA_JSON_LINE_H_
#define ENTRAIN_RUNTIME_DATA_JSON_LINE_H_

#include <nlohmann/json.hpp>
#include <string_view>

#include "runtime/base/status.h"

namespace entrain {

// InvalidArgument: not UTF-8 (with the byte's place in the line), not JSON (with the column and the parser's reason), not an
// object. The caller adds which line it is.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view line);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_JSON_LINE_H_
