#include "runtime/data/json_document.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/nearest_name.h"
#include "runtime/data/json_line.h"

namespace entrain {
namespace {

using Json = nlohmann::json;

absl::StatusOr<std::string> TakeString(Json& object, const std::string& field) {
  const auto found = object.find(field);
  if (found == object.end()) {
    std::vector<std::string> names;
    for (const auto& item : object.items()) names.push_back(item.key());
    return absl::InvalidArgumentError(absl::StrCat("no field '", field,
                                                   "' (there are: ", absl::StrJoin(names, ", "),
                                                   ")", DidYouMean(field, names)));
  }
  if (!found->is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat("field '", field, "' must be a string and is a JSON ", found->type_name()));
  }
  return std::move(found->get_ref<std::string&>());
}

}  // namespace

absl::StatusOr<JsonDocument> ParseJsonDocument(std::string_view line, const std::string& text_field,
                                               const std::string& split_field) {
  ASSIGN_OR_RETURN(Json object, ParseJsonObject(line));
  JsonDocument document;
  if (!split_field.empty()) {
    ASSIGN_OR_RETURN(const std::string word, TakeString(object, split_field));
    document.split = kSplitWords.Find(word);
    if (!document.split) {
      return absl::InvalidArgumentError(absl::StrCat("field '", split_field, "' is '", word,
                                                     "'; allowed are ",
                                                     absl::StrJoin(kSplitWords.Names(), ", ")));
    }
  }
  ASSIGN_OR_RETURN(document.text, TakeString(object, text_field));
  return document;
}

}  // namespace entrain
