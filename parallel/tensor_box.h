// TensorBox: a rectangular part of a tensor. Shards and what a rank asks for are boxes; loading copies what two have in
// common, so that a checkpoint of one cut can be read under any other.
#ifndef ENTRAIN_PARALLEL_TENSOR_BOX_H_
#define ENTRAIN_PARALLEL_TENSOR_BOX_H_

#include <cstdint>
#include <vector>

namespace entrain {

// Elements [begin[i], begin[i] + shape[i]) of every dim i of the whole tensor, stored densely in row-major order.
struct TensorBox {
  std::vector<int64_t> begin;
  std::vector<int64_t> shape;

  // The part of a tensor of `rank` dims that begins at `cut_begin` of dim `cut_dim` (−1: at 0 of every dim).
  static TensorBox Cut(const std::vector<int64_t>& shape, int cut_dim, int64_t cut_begin);

  int64_t elements() const;
};

// What two boxes of one tensor have in common; a size of 0 when that is nothing.
TensorBox Intersection(const TensorBox& a, const TensorBox& b);

// Copies the elements that the boxes have in common from `source`, dense in `from`, to `target`, dense in `to`.
// Sources need no alignment: they are bytes of a mapped file.
void CopyCommon(const TensorBox& from, const std::byte* source, const TensorBox& to, float* target);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_TENSOR_BOX_H_
