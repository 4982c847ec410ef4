#include "parallel/tensor_index.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace entrain {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const IndexedTensor& tensor) {
  Json pieces = Json::array();
  for (const TensorPiece& piece : tensor.pieces) {
    pieces.push_back({{"file", piece.file},
                      {"cut_dim", piece.cut_dim},
                      {"begin", piece.begin},
                      {"shape", piece.shape}});
  }
  return {{"name", tensor.name},
          {"dtype", tensor.dtype},
          {"shape", tensor.shape},
          {"pieces", std::move(pieces)}};
}

// Throws the library's exceptions when a field is missing or of another type.
IndexedTensor FromJson(const Json& json) {
  IndexedTensor tensor;
  json.at("name").get_to(tensor.name);
  json.at("dtype").get_to(tensor.dtype);
  json.at("shape").get_to(tensor.shape);
  for (const Json& row : json.at("pieces")) {
    TensorPiece piece;
    row.at("file").get_to(piece.file);
    row.at("cut_dim").get_to(piece.cut_dim);
    row.at("begin").get_to(piece.begin);
    row.at("shape").get_to(piece.shape);
    tensor.pieces.push_back(std::move(piece));
  }
  return tensor;
}

absl::StatusOr<TensorIndex> ParseFields(std::string_view text) {
  TensorIndex index;
  try {
    const Json json = Json::parse(text.begin(), text.end());
    json.at("step").get_to(index.step);
    for (const Json& row : json.at("tensors")) index.tensors.push_back(FromJson(row));
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat("malformed: ", error.what()));
  }
  return index;
}

bool AllSizesValid(const std::vector<int64_t>& shape) {
  return std::all_of(shape.begin(), shape.end(), [](int64_t size) { return size >= 0; });
}

// Nothing when the pieces, sorted, make up the tensor exactly once; else what is wrong.
std::string FaultOfPieces(const IndexedTensor& tensor) {
  if (tensor.pieces.empty()) return "it has no pieces";
  const int cut_dim = tensor.pieces.front().cut_dim;
  if (cut_dim < -1 || cut_dim >= static_cast<int>(tensor.shape.size())) {
    return absl::StrCat("it is cut along dim ", cut_dim, " of ", tensor.shape.size());
  }
  if (cut_dim == -1) {
    const bool whole = tensor.pieces.size() == 1 && tensor.pieces[0].shape == tensor.shape &&
                       tensor.pieces[0].begin == 0;
    return whole ? "" : "it is not cut, but its one piece is not the whole";
  }
  const auto dim = static_cast<size_t>(cut_dim);
  const int64_t whole = tensor.shape[dim];
  int64_t cursor = 0;
  for (const TensorPiece& piece : tensor.pieces) {
    std::vector<int64_t> expected = tensor.shape;
    if (piece.cut_dim == cut_dim && piece.shape.size() == expected.size())
      expected[dim] = piece.shape[dim];
    if (piece.cut_dim != cut_dim || piece.shape != expected || !AllSizesValid(piece.shape)) {
      return absl::StrCat("the piece in ", piece.file, " of shape ", FormatShape(piece.shape),
                          " does not fit");
    }
    if (piece.begin != cursor) {
      return absl::StrCat("the piece in ", piece.file, " begins at ", piece.begin, ", not at ",
                          cursor);
    }
    if (piece.shape[dim] > whole - cursor) {
      return absl::StrCat("the piece in ", piece.file, " passes its end, ", whole);
    }
    cursor += piece.shape[dim];
  }
  return cursor == whole ? "" : absl::StrCat("its pieces end at ", cursor, " of ", whole);
}

absl::Status CheckTensor(IndexedTensor& tensor) {
  std::stable_sort(tensor.pieces.begin(), tensor.pieces.end(),
                   [](const TensorPiece& a, const TensorPiece& b) { return a.begin < b.begin; });
  std::string fault;
  if (tensor.dtype != "F32") {
    fault = absl::StrCat("its dtype is '", tensor.dtype, "', F32 is allowed");
  } else if (!AllSizesValid(tensor.shape)) {
    fault = absl::StrCat("its shape ", FormatShape(tensor.shape), " has a negative size");
  } else {
    fault = FaultOfPieces(tensor);
  }
  if (fault.empty()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("tensor '", tensor.name, "' of shape ", FormatShape(tensor.shape), ": ", fault));
}

}  // namespace

std::string FormatShape(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::string FormatTensorIndex(const TensorIndex& index) {
  Json json = {{"step", index.step}, {"tensors", Json::array()}};
  for (const IndexedTensor& tensor : index.tensors) json["tensors"].push_back(ToJson(tensor));
  return json.dump(/*indent=*/1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) +
         "\n";
}

absl::StatusOr<TensorIndex> ParseTensorIndex(std::string_view text) {
  ASSIGN_OR_RETURN(TensorIndex index, ParseFields(text));
  std::set<std::string> names;
  for (IndexedTensor& tensor : index.tensors) {
    if (!names.insert(tensor.name).second) {
      return absl::DataLossError(absl::StrCat("tensor '", tensor.name, "' is listed twice"));
    }
    RETURN_IF_ERROR(CheckTensor(tensor));
  }
  return index;
}

}  // namespace entrain
