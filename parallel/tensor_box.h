// TensorBox: a rectangular part of a tensor. Shards and what a rank asks for are boxes; loading copies what two have in
// common, so that a checkpoint of one cut can be read under any other.
#ifndef ENTRAIN_PARALLEL_TENSOR_BOX_H_
#define ENTRAIN_PARALLEL_TENSOR_BOX_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace entrain {

// Elements [begin[i], begin[i] + shape[i]) of every dim i of the whole tensor, stored densely in row-major order.
struct TensorBox {
  std::vector<int64_t> begin;
  std::vector<int64_t> shape;

  // All of a tensor.
  static TensorBox Whole(const std::vector<int64_t>& shape) { return Cut(shape, -1, 0); }
  // The part of a tensor that begins at `cut_begin` of dim `cut_dim` (−1: at 0 of every dim).
  static TensorBox Cut(const std::vector<int64_t>& shape, int cut_dim, int64_t cut_begin);

  int64_t elements() const;
  bool operator==(const TensorBox&) const = default;
};

// "[4, 6]"
std::string FormatShape(const std::vector<int64_t>& shape);
// "[0:4, 2:6]"
std::string FormatBox(const TensorBox& box);
// The number of elements; −1 when a size is negative or the number passes 2⁶¹.
int64_t ElementsOf(const std::vector<int64_t>& shape);
// Whether the box has the shape's dims and lies in it.
bool LiesIn(const TensorBox& box, const std::vector<int64_t>& shape);

// What two boxes of one tensor have in common; a size of 0 when that is nothing.
TensorBox Intersection(const TensorBox& a, const TensorBox& b);

// Copies the elements that the boxes have in common from `source`, dense in `from`, to `target`, dense in `to`.
// Sources need no alignment: they are bytes of a mapped file.
void CopyCommon(const TensorBox& from, const std::byte* source, const TensorBox& to, float* target);

// The same for boxes of two views of one tensor: other shapes of the same elements in the same order, as [C, 3C] and
// [C, 3, C].
void CopyCommon(const std::vector<int64_t>& from_view, const TensorBox& from,
                const std::byte* source, const std::vector<int64_t>& to_view, const TensorBox& to,
                float* target);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_TENSOR_BOX_H_
