#include "parallel/tensor_box.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
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

// The runs of consecutive elements of the whole tensor that a box is made of, ascending. The box stores them one after the
// other.
class Runs {
 public:
  Runs(const std::vector<int64_t>& view, const TensorBox& box)
      : whole_(TensorBox::Whole(view)), box_(box), position_(box.begin) {
    CHECK(LiesIn(box, view)) << FormatBox(box) << " of " << FormatShape(view);
    if (!view.empty()) outer_dims_ = OutermostDenseDim(box, box, whole_);
    for (size_t dim = outer_dims_; dim < view.size(); ++dim) size_ *= box.shape[dim];
    done_ = box.elements() == 0;
    begin_ = OffsetIn(whole_, position_);
  }

  bool done() const { return done_; }
  int64_t begin() const { return begin_; }  // in the whole tensor
  int64_t end() const { return begin_ + size_; }
  int64_t offset() const { return offset_; }  // in the box's storage

  void Next() {
    done_ = !Advance(box_, outer_dims_, &position_);
    offset_ += size_;
    begin_ = OffsetIn(whole_, position_);
  }

 private:
  TensorBox whole_;
  const TensorBox& box_;
  std::vector<int64_t> position_;
  size_t outer_dims_ = 0;
  int64_t begin_ = 0;
  int64_t size_ = 1;
  int64_t offset_ = 0;
  bool done_ = false;
};

}  // namespace

std::string FormatShape(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::string FormatBox(const TensorBox& box) {
  std::vector<std::string> ranges;
  for (size_t dim = 0; dim < box.shape.size(); ++dim) {
    ranges.push_back(absl::StrCat(box.begin[dim], ":", box.begin[dim] + box.shape[dim]));
  }
  return absl::StrCat("[", absl::StrJoin(ranges, ", "), "]");
}

int64_t ElementsOf(const std::vector<int64_t>& shape) {
  constexpr int64_t kMost = int64_t{1} << 61;
  int64_t elements = 1;
  for (const int64_t size : shape) {
    if (size < 0) return -1;
    if (size > 0 && elements > kMost / size) return -1;
    elements *= size;
  }
  return elements;
}

bool LiesIn(const TensorBox& box, const std::vector<int64_t>& shape) {
  if (box.begin.size() != shape.size() || box.shape.size() != shape.size()) return false;
  for (size_t dim = 0; dim < shape.size(); ++dim) {
    const int64_t begin = box.begin[dim];
    if (begin < 0 || begin > shape[dim] || box.shape[dim] < 0) return false;
    if (box.shape[dim] > shape[dim] - begin) return false;
  }
  return true;
}

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

void CopyCommon(const std::vector<int64_t>& from_view, const TensorBox& from,
                const std::byte* source, const std::vector<int64_t>& to_view, const TensorBox& to,
                float* target) {
  if (from_view == to_view) return CopyCommon(from, source, to, target);
  Runs theirs(from_view, from);
  Runs ours(to_view, to);
  while (!theirs.done() && !ours.done()) {
    const int64_t begin = std::max(theirs.begin(), ours.begin());
    const int64_t end = std::min(theirs.end(), ours.end());
    if (begin < end) {
      const auto at = static_cast<size_t>(theirs.offset() + begin - theirs.begin());
      std::memcpy(target + ours.offset() + begin - ours.begin(), source + at * sizeof(float),
                  static_cast<size_t>(end - begin) * sizeof(float));
    }
    (theirs.end() <= ours.end() ? theirs : ours).Next();
  }
}

}  // namespace entrain
