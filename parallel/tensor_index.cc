#include "parallel/tensor_index.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace entrain {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const IndexedTensor& tensor) {
  Json pieces = Json::array();
  for (const TensorPiece& piece : tensor.pieces) {
    pieces.push_back(
        {{"file", piece.file}, {"begin", piece.box.begin}, {"shape", piece.box.shape}});
  }
  Json json = {{"name", tensor.name}, {"dtype", tensor.dtype}, {"shape", tensor.shape}};
  if (tensor.viewed_shape() != tensor.shape) json["view"] = tensor.view;
  json["pieces"] = std::move(pieces);
  return json;
}

// Throws the library's exceptions when a field is missing or of another type.
IndexedTensor FromJson(const Json& json) {
  IndexedTensor tensor;
  json.at("name").get_to(tensor.name);
  json.at("dtype").get_to(tensor.dtype);
  json.at("shape").get_to(tensor.shape);
  if (json.contains("view")) json.at("view").get_to(tensor.view);
  for (const Json& row : json.at("pieces")) {
    TensorPiece piece;
    row.at("file").get_to(piece.file);
    row.at("begin").get_to(piece.box.begin);
    row.at("shape").get_to(piece.box.shape);
    tensor.pieces.push_back(std::move(piece));
  }
  return tensor;
}

// The dim along which the most pieces begin at different places: a sweep along it meets few of them at a time.
size_t SweepDim(const std::vector<TensorPiece>& pieces, size_t dims) {
  size_t best = 0;
  size_t most = 0;
  for (size_t dim = 0; dim < dims; ++dim) {
    std::set<int64_t> begins;
    for (const TensorPiece& piece : pieces) begins.insert(piece.box.begin[dim]);
    if (begins.size() > most) best = dim;
    most = std::max(most, begins.size());
  }
  return best;
}

// Whether boxes of one tensor, none of them empty, have an element in common.
bool Overlap(const TensorBox& a, const TensorBox& b) {
  for (size_t dim = 0; dim < a.shape.size(); ++dim) {
    const bool apart =
        a.begin[dim] + a.shape[dim] <= b.begin[dim] || b.begin[dim] + b.shape[dim] <= a.begin[dim];
    if (apart) return false;
  }
  return true;
}

// "" when no two pieces have an element in common.
std::string FaultOfOverlaps(const std::vector<TensorPiece>& pieces, size_t dims) {
  const size_t dim = SweepDim(pieces, dims);
  std::vector<const TensorPiece*> sorted;
  sorted.reserve(pieces.size());
  for (const TensorPiece& piece : pieces) sorted.push_back(&piece);
  auto begin_of = [dim, dims](const TensorPiece& p) { return dims == 0 ? 0 : p.box.begin[dim]; };
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](const auto* a, const auto* b) { return begin_of(*a) < begin_of(*b); });
  for (size_t i = 0; i < sorted.size(); ++i) {
    const TensorPiece& a = *sorted[i];
    const int64_t end = begin_of(a) + (dims == 0 ? 1 : a.box.shape[dim]);
    for (size_t j = i + 1; j < sorted.size() && begin_of(*sorted[j]) < end; ++j) {
      const TensorPiece& b = *sorted[j];
      if (!Overlap(a.box, b.box)) continue;
      return absl::StrCat("the pieces ", FormatBox(a.box), " in ", a.file, " and ",
                          FormatBox(b.box), " in ", b.file, " overlap");
    }
  }
  return "";
}

// "" when the pieces make up the view exactly once; else what is wrong.
std::string FaultOfPieces(const IndexedTensor& tensor) {
  const std::vector<int64_t>& view = tensor.viewed_shape();
  int64_t held = 0;
  for (const TensorPiece& piece : tensor.pieces) {
    const char* fault = !LiesIn(piece.box, view)           ? "does not lie in"
                        : ElementsOf(piece.box.shape) == 0 ? "has no elements of"
                                                           : nullptr;
    if (fault == nullptr) continue;
    return absl::StrCat("the piece in ", piece.file, " that begins at ",
                        FormatShape(piece.box.begin), " with shape ", FormatShape(piece.box.shape),
                        " ", fault, " ", FormatShape(view));
  }
  std::string overlap = FaultOfOverlaps(tensor.pieces, view.size());
  if (!overlap.empty()) return overlap;
  // Disjoint parts of the whole: their number of elements is at most the whole's, and equal only when nothing is left out.
  for (const TensorPiece& piece : tensor.pieces) held += piece.box.elements();
  const int64_t all = ElementsOf(view);
  if (held == all) return "";
  if (tensor.pieces.empty()) return "it has no pieces";
  return absl::StrCat("its ", tensor.pieces.size(), " pieces hold ", held, " of ", all,
                      " elements");
}

std::string FaultOf(const IndexedTensor& tensor) {
  if (tensor.dtype != "F32") {
    return absl::StrCat("its dtype is '", tensor.dtype, "', F32 is allowed");
  }
  const int64_t elements = ElementsOf(tensor.shape);
  if (elements < 0) return "its shape has a negative size or too many elements";
  if (ElementsOf(tensor.viewed_shape()) != elements) {
    return absl::StrCat("its view ", FormatShape(tensor.view), " has other elements");
  }
  return FaultOfPieces(tensor);
}

}  // namespace

std::string FormatTensorIndex(const TensorIndex& index) {
  Json json = {{"step", index.step}, {"tensors", Json::array()}};
  for (const IndexedTensor& tensor : index.tensors) json["tensors"].push_back(ToJson(tensor));
  return json.dump(/*indent=*/1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) +
         "\n";
}

absl::StatusOr<TensorIndex> ParsePartialTensorIndex(std::string_view text) {
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

absl::Status CheckTensorIndex(TensorIndex* index) {
  std::set<std::string> names;
  for (IndexedTensor& tensor : index->tensors) {
    if (!names.insert(tensor.name).second) {
      return absl::DataLossError(absl::StrCat("tensor '", tensor.name, "' is listed twice"));
    }
    const std::string fault = FaultOf(tensor);
    if (!fault.empty()) {
      return absl::DataLossError(absl::StrCat("tensor '", tensor.name, "' of shape ",
                                              FormatShape(tensor.shape), ": ", fault));
    }
    std::sort(tensor.pieces.begin(), tensor.pieces.end(),
              [](const auto& a, const auto& b) { return a.box.begin < b.box.begin; });
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorIndex> ParseTensorIndex(std::string_view text) {
  ASSIGN_OR_RETURN(TensorIndex index, ParsePartialTensorIndex(text));
  RETURN_IF_ERROR(CheckTensorIndex(&index));
  return index;
}

std::string PieceKey(const IndexedTensor& tensor, const TensorBox& box) {
  if (box.shape == tensor.viewed_shape()) return tensor.name;
  return absl::StrCat(tensor.name, FormatBox(box));
}

std::string DescribeCut(const IndexedTensor& tensor) {
  if (tensor.pieces.size() < 2) return "";
  auto smaller = [](const TensorPiece& a, const TensorPiece& b) {
    return a.box.elements() < b.box.elements();
  };
  const auto [least, most] =
      std::minmax_element(tensor.pieces.begin(), tensor.pieces.end(), smaller);
  std::string text =
      absl::StrCat(tensor.pieces.size(), " pieces of ", FormatShape(least->box.shape));
  if (smaller(*least, *most)) absl::StrAppend(&text, " to ", FormatShape(most->box.shape));
  if (tensor.viewed_shape() != tensor.shape) {
    absl::StrAppend(&text, " as ", FormatShape(tensor.view));
  }
  return text;
}

}  // namespace entrain
