#include "runtime/io/safetensors_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/io/safetensors.h"

namespace entrain {
namespace {

using Json = nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little, "safetensors data are little-endian");

constexpr char kMetadataKey[] = "__metadata__";
constexpr size_t kAlignment = 64;

// Parses JSON and keeps the first key that an object has twice, which the library by itself would
// let pass. Leaves out what lies deeper than anything that is read: copying a value recurses.
class UniqueKeyParser {
 public:
  absl::StatusOr<Json> Parse(std::string_view text) {
    const Json json = Json::parse(
        text.begin(), text.end(),
        [this](int depth, Json::parse_event_t event, Json& value) {
          return Visit(depth, event, value);
        },
        /*allow_exceptions=*/false);
    if (json.is_discarded()) return absl::DataLossError("the header is not valid JSON");
    if (!twice_.empty()) return absl::DataLossError(absl::StrCat("'", twice_, "' appears twice"));
    if (!json.is_object()) return absl::DataLossError("the header is not a JSON object");
    return json;
  }

 private:
  bool Visit(int depth, Json::parse_event_t event, const Json& value) {
    constexpr int kMaxDepth = 4;
    // Of what is left out the library does not tell the end.
    open_.resize(static_cast<size_t>(depth));
    if (event == Json::parse_event_t::object_start) open_.emplace_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!open_.back().insert(key).second && twice_.empty()) twice_ = key;
    }
    return depth <= kMaxDepth;
  }

  // Keys of the objects that are open, outermost first; none for arrays.
  std::vector<std::set<std::string>> open_;
  std::string twice_;
};

absl::Status BadEntry(const std::string& name, const std::string& what) {
  return absl::DataLossError(absl::StrCat("tensor '", name, "': ", what));
}

// An array of integers in [0, int64's largest]; false when `json` is something else.
bool ReadSizes(const Json& json, std::vector<int64_t>* sizes) {
  if (!json.is_array()) return false;
  for (const Json& element : json) {
    if (!element.is_number_unsigned() || element.get<uint64_t>() > INT64_MAX) return false;
    sizes->push_back(element.get<int64_t>());
  }
  return true;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::Status CheckSize(const SafetensorsHeaderEntry& entry) {
  if (SafetensorsElementSize(entry.dtype) == 0) {
    return BadEntry(entry.name, absl::StrCat("unknown dtype '", entry.dtype, "'"));
  }
  const int64_t bytes = SafetensorsBytes(entry.dtype, entry.shape);
  const std::string what = absl::StrCat(entry.dtype, " ", ShapeText(entry.shape));
  if (bytes < 0) return BadEntry(entry.name, absl::StrCat(what, " is too large"));
  if (entry.end - entry.begin != bytes) {
    return BadEntry(entry.name,
                    absl::StrCat(what, " takes ", bytes, " bytes, its data_offsets [", entry.begin,
                                 ", ", entry.end, "] hold ", entry.end - entry.begin));
  }
  return absl::OkStatus();
}

absl::StatusOr<SafetensorsHeaderEntry> ReadEntry(const std::string& name, const Json& json) {
  SafetensorsHeaderEntry entry;
  entry.name = name;
  if (!json.is_object()) return BadEntry(name, "is not described by a JSON object");
  const auto dtype = json.find("dtype");
  if (dtype == json.end() || !dtype->is_string()) return BadEntry(name, "has no dtype");
  entry.dtype = dtype->get<std::string>();
  const auto shape = json.find("shape");
  if (shape == json.end() || !ReadSizes(*shape, &entry.shape)) {
    return BadEntry(name, "shape is not a list of sizes");
  }
  std::vector<int64_t> offsets;
  const auto data = json.find("data_offsets");
  if (data == json.end() || !ReadSizes(*data, &offsets) || offsets.size() != 2 ||
      offsets[0] > offsets[1]) {
    return BadEntry(name, "data_offsets is not [begin, end]");
  }
  entry.begin = offsets[0];
  entry.end = offsets[1];
  RETURN_IF_ERROR(CheckSize(entry));
  return entry;
}

absl::Status ReadMetadata(const Json& json, std::map<std::string, std::string>* metadata) {
  if (!json.is_object()) return absl::DataLossError("__metadata__ is not a JSON object");
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) {
      return absl::DataLossError(absl::StrCat("__metadata__ '", key, "' is not a string"));
    }
    (*metadata)[key] = value.get<std::string>();
  }
  return absl::OkStatus();
}

// Sorted tensors must follow one another from the first byte to the last.
absl::Status CheckContiguous(const std::vector<SafetensorsHeaderEntry>& sorted,
                             int64_t data_bytes) {
  int64_t cursor = 0;
  for (const SafetensorsHeaderEntry& entry : sorted) {
    const std::string where =
        absl::StrCat("its bytes begin at ", entry.begin, ", those before it end at ", cursor);
    if (entry.begin < cursor)
      return BadEntry(entry.name, absl::StrCat("overlaps another one: ", where));
    if (entry.begin > cursor) return BadEntry(entry.name, absl::StrCat("leaves a gap: ", where));
    cursor = entry.end;
  }
  if (cursor == data_bytes) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the header describes ", cursor,
                                          " bytes of data, the file holds ", data_bytes,
                                          cursor > data_bytes ? ": it is cut short" : ""));
}

}  // namespace

int64_t SafetensorsElementSize(std::string_view dtype) {
  static constexpr std::pair<std::string_view, int64_t> kSizes[] = {
      {"F64", 8}, {"F32", 4}, {"F16", 2},  {"BF16", 2},    {"I64", 8},
      {"U64", 8}, {"I32", 4}, {"U32", 4},  {"I16", 2},     {"U16", 2},
      {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  for (const auto& [name, size] : kSizes) {
    if (name == dtype) return size;
  }
  return 0;
}

int64_t SafetensorsBytes(std::string_view dtype, const std::vector<int64_t>& shape) {
  int64_t bytes = SafetensorsElementSize(dtype);
  if (bytes == 0) return -1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) return -1;
  }
  return bytes;
}

absl::StatusOr<std::string> FormatSafetensorsHeader(const SafetensorsHeader& header) {
  Json json = Json::object();
  if (!header.metadata.empty()) json[kMetadataKey] = header.metadata;
  for (const SafetensorsHeaderEntry& entry : header.tensors) {
    json[entry.name] = {
        {"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text;
  try {
    text = json.dump();
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("a name or metadata is not UTF-8: ", error.what()));
  }
  const size_t unpadded = sizeof(uint64_t) + text.size();
  text.append((kAlignment - unpadded % kAlignment) % kAlignment, ' ');
  const uint64_t length = text.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + text;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view text,
                                                         int64_t data_bytes) {
  ASSIGN_OR_RETURN(const Json json, UniqueKeyParser().Parse(text));
  SafetensorsHeader header;
  for (const auto& [name, value] : json.items()) {
    if (name == kMetadataKey) {
      RETURN_IF_ERROR(ReadMetadata(value, &header.metadata));
      continue;
    }
    ASSIGN_OR_RETURN(SafetensorsHeaderEntry entry, ReadEntry(name, value));
    header.tensors.push_back(std::move(entry));
  }
  // Empty tensors share their begin with the next one: the end decides.
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  RETURN_IF_ERROR(CheckContiguous(header.tensors, data_bytes));
  return header;
}

}  // namespace entrain
