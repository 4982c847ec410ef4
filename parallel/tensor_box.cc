#include "parallel/tensor_box.h"

#include <algorithm>
#include <cstring>

#include "runtime/base/check.h"

namespace entrain {
namespace {

// Index within `box`'s dense storage of the element at `position` of the whole tensor.
int64_t OffsetIn(const TensorBox& box, const std::vector<int64_t>& position) {
  int64_t offset = 0;
  for (size_t dim = 0; dim < position.size(); ++dim) {
    offset = offset * box.shape[dim] + position[dim] - box.begin[dim];
  }
  return offset;
}

// The outermost dim along which the common elements lie densely in both boxes: every dim inside it is whole in both.
size_t OutermostDenseDim(const TensorBox& common, const TensorBox& from, const TensorBox& to) {
  size_t dim = common.shape.size() - 1;
  while (dim > 0 && common.shape[dim] == from.shape[dim] && common.shape[dim] == to.shape[dim])
    --dim;
  return dim;
}

// The next position within the first `dims` dims of `box`, innermost first; false after the last.
bool Advance(const TensorBox& box, size_t dims, std::vector<int64_t>* position) {
  for (size_t dim = dims; dim-- > 0;) {
    if (++(*position)[dim] < box.begin[dim] + box.shape[dim]) return true;
    (*position)[dim] = box.begin[dim];
  }
  return false;
}

}  // namespace

TensorBox TensorBox::Cut(const std::vector<int64_t>& shape, int cut_dim, int64_t cut_begin) {
  TensorBox box{std::vector<int64_t>(shape.size(), 0), shape};
  if (cut_dim >= 0) box.begin.at(static_cast<size_t>(cut_dim)) = cut_begin;
  return box;
}

int64_t TensorBox::elements() const {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  return elements;
}

TensorBox Intersection(const TensorBox& a, const TensorBox& b) {
  CHECK_EQ(a.shape.size(), b.shape.size()) << "boxes of one tensor";
  TensorBox common = a;
  for (size_t dim = 0; dim < a.shape.size(); ++dim) {
    const int64_t end = std::min(a.begin[dim] + a.shape[dim], b.begin[dim] + b.shape[dim]);
    common.begin[dim] = std::max(a.begin[dim], b.begin[dim]);
    common.shape[dim] = std::max<int64_t>(end - common.begin[dim], 0);
  }
  return common;
}

void CopyCommon(const TensorBox& from, const std::byte* source, const TensorBox& to,
                float* target) {
  const TensorBox common = Intersection(from, to);
  if (common.elements() == 0) return;
  if (common.shape.empty()) {  // a scalar
    std::memcpy(target, source, sizeof(float));
    return;
  }
  const size_t dense = OutermostDenseDim(common, from, to);
  int64_t run = 1;
  for (size_t dim = dense; dim < common.shape.size(); ++dim) run *= common.shape[dim];
  std::vector<int64_t> position = common.begin;
  do {
    const auto offset = static_cast<size_t>(OffsetIn(from, position));
    std::memcpy(target + OffsetIn(to, position), source + offset * sizeof(float),
                static_cast<size_t>(run) * sizeof(float));
  } while (Advance(common, dense, &position));
}

}  // namespace entrain
