// TensorIndex: a checkpoint's tensors.json. What tensors there are, how they are cut and which file holds which piece.
//
//   {"step": 1000, "tensors": [{"name": "h.0.w", "dtype": "F32", "shape": [4, 6], "pieces": [
//      {"file": "shard_00000_of_00002.safetensors", "cut_dim": 0, "begin": 0, "shape": [2, 6]}, ...]}, ...]}
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

// Rows [begin, begin + shape[cut_dim]) of dim cut_dim, stored under the tensor's name in `file`; −1: all of it.
struct TensorPiece {
  std::string file;
  int cut_dim = -1;
  int64_t begin = 0;
  std::vector<int64_t> shape;

  TensorBox Box() const { return TensorBox::Cut(shape, cut_dim, begin); }
};

struct IndexedTensor {
  std::string name;
  std::string dtype = "F32";
  std::vector<int64_t> shape;  // of the whole
  std::vector<TensorPiece> pieces;
};

struct TensorIndex {
  int64_t step = 0;
  std::vector<IndexedTensor> tensors;
};

std::string FormatTensorIndex(const TensorIndex& index);

// DataLoss, naming the tensor, for: malformed JSON, a name twice, a dtype other than F32, pieces that do not make up the
// tensor exactly once. A tensor's pieces come in the order of their begin.
absl::StatusOr<TensorIndex> ParseTensorIndex(std::string_view text);

// "[4, 6]"
std::string FormatShape(const std::vector<int64_t>& shape);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_TENSOR_INDEX_H_
