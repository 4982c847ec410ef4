// TensorIndex: a checkpoint's tensors.json. What tensors there are, how they are cut and which file holds which piece.
//
//   {"step": 1000, "tensors": [{"name": "h.0.w", "dtype": "F32", "shape": [4, 6], "view": [4, 3, 2], "pieces": [
//      {"file": "shard_00000_of_00002.safetensors", "begin": [0, 0, 0], "shape": [4, 3, 1]}, ...]}, ...]}
#ifndef ENTRAIN_PARALLEL_TENSOR_INDEX_H_
#define ENTRAIN_PARALLEL_TENSOR_INDEX_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/tensor_box.h"
#include "runtime/base/status.h"

namespace entrain {

inline constexpr char kTensorIndexName[] = "tensors.json";

// A part of a tensor's view, stored in `file` under PieceKey.
struct TensorPiece {
  std::string file;
  TensorBox box;
};

struct IndexedTensor {
  std::string name;
  std::string dtype = "F32";
  std::vector<int64_t> shape;  // of the whole
  // The shape that pieces are boxes of: the same elements in the same order. Empty: `shape`.
  std::vector<int64_t> view;
  std::vector<TensorPiece> pieces;  // none of a tensor without elements

  const std::vector<int64_t>& viewed_shape() const { return view.empty() ? shape : view; }
};

struct TensorIndex {
  int64_t step = 0;
  std::vector<IndexedTensor> tensors;
};

std::string FormatTensorIndex(const TensorIndex& index);

// The tensors' pieces need not make them up. DataLoss: malformed JSON.
absl::StatusOr<TensorIndex> ParsePartialTensorIndex(std::string_view text);

// DataLoss, naming the tensor, for: a name twice, a dtype other than F32, a view of other elements, pieces that do not
// make up the view exactly once. Sorts each tensor's pieces by where they begin.
absl::Status CheckTensorIndex(TensorIndex* index);

// Both.
absl::StatusOr<TensorIndex> ParseTensorIndex(std::string_view text);

// The name of a piece in its file: the tensor's, and which part of the view it is unless it is all of it,
// "h.0.w[0:4, 0:3, 0:1]". So a file may hold several pieces of a tensor, and tells by itself what is in it.
std::string PieceKey(const IndexedTensor& tensor, const TensorBox& box);

// How a tensor is cut, to be read: "4 pieces of [4, 3, 2] as [4, 3, 8]"; "" when it is one piece or none.
std::string DescribeCut(const IndexedTensor& tensor);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_TENSOR_INDEX_H_
