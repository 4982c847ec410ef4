// A line of a .jsonl file as a document: its text, and the split that it is marked for.
#ifndef ENTRAIN_RUNTIME_DATA_JSON_DOCUMENT_H_
#define ENTRAIN_RUNTIME_DATA_JSON_DOCUMENT_H_

#include <optional>
#include <string>
#include <string_view>

#include "runtime/base/enum_table.h"
#include "runtime/base/status.h"

namespace entrain {

enum class Split { kTrain, kVal };
// The names of the splits' shards.
inline constexpr EnumTable<Split, 2> kSplitNames{
    {{{Split::kTrain, "train"}, {Split::kVal, "val"}}}};
// What a split field may say.
inline constexpr EnumTable<Split, 4> kSplitWords{{{{Split::kTrain, "train"},
                                                   {Split::kVal, "val"},
                                                   {Split::kVal, "valid"},
                                                   {Split::kVal, "validation"}}}};

struct JsonDocument {
  std::string text;
  std::optional<Split> split;  // when split_field is not ""
};

// InvalidArgument says what is wrong: not JSON (with the column), not UTF-8, not an object, a field that is missing (with
// those that are there) or is not a string, a split that is none of kSplitWords. The caller adds where.
absl::StatusOr<JsonDocument> ParseJsonDocument(std::string_view line, const std::string& text_field,
                                               const std::string& split_field);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_JSON_DOCUMENT_H_
