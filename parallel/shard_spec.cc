#include "parallel/shard_spec.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "runtime/base/check.h"

namespace entrain {
namespace {

int64_t Product(std::vector<int64_t>::const_iterator begin,
                std::vector<int64_t>::const_iterator end) {
  return std::accumulate(begin, end, int64_t{1}, std::multiplies<>());
}

}  // namespace

ShardSpec ShardSpec::Whole(std::vector<int64_t> shape) {
  TensorBox box{std::vector<int64_t>(shape.size(), 0), shape};
  return {shape, shape, std::move(box), 1};
}

ShardSpec ShardSpec::Cut(std::vector<int64_t> shape, int dim, const ShardPlace& place,
                         int64_t groups) {
  const auto d = static_cast<size_t>(dim);
  const int64_t part = shape.at(d) / groups;
  CHECK_EQ(part * groups, shape[d]) << "groups of a cut dim";
  const int64_t share = part / place.ranks;
  CHECK_EQ(share * place.ranks, part) << "a cut dim over " << place.ranks << " ranks";
  std::vector<int64_t> view = shape;
  if (groups > 1) {
    view[d] = part;
    view.insert(view.begin() + dim, groups);
  }
  const size_t cut = groups > 1 ? d + 1 : d;
  TensorBox box{std::vector<int64_t>(view.size(), 0), view};
  box.begin[cut] = place.rank * share;
  box.shape[cut] = share;
  return {std::move(shape), std::move(view), std::move(box), place.ranks};
}

ShardSpec ShardSpec::Rows(std::vector<int64_t> shape, int64_t begin, int64_t count, int ranks) {
  ShardSpec spec = Whole(std::move(shape));
  spec.ranks = ranks;
  spec.box.begin[0] = std::min(begin, spec.shape[0]);
  spec.box.shape[0] = std::min(count, spec.shape[0] - spec.box.begin[0]);
  return spec;
}

int64_t ShardSpec::whole_elements() const { return Product(shape.begin(), shape.end()); }

std::vector<int64_t> ShardSpec::LocalShape() const {
  if (view.size() == shape.size()) return box.shape;
  std::vector<int64_t> local = shape;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (view[d] == shape[d]) {
      local[d] = box.shape[d];
      continue;
    }
    // The dim that was split in groups.
    local[d] = box.shape[d] * box.shape[d + 1];
    std::copy(box.shape.begin() + static_cast<std::ptrdiff_t>(d) + 2, box.shape.end(),
              local.begin() + static_cast<std::ptrdiff_t>(d) + 1);
    break;
  }
  return local;
}

void ShardSpec::ForEachRun(
    const std::function<void(int64_t local, int64_t whole, int64_t count)>& body) const {
  if (elements() == 0) return;
  // Within dim `outer` and inside it the shard lies densely in the whole.
  size_t outer = view.size() - 1;
  while (outer > 0 && box.shape[outer] == view[outer]) --outer;
  const auto at = static_cast<std::ptrdiff_t>(outer);
  const int64_t inner = Product(view.begin() + at + 1, view.end());
  const int64_t run = box.shape[outer] * inner;
  std::vector<int64_t> position(box.begin.begin(), box.begin.begin() + at);
  for (int64_t local = 0; local < elements(); local += run) {
    int64_t whole = 0;
    for (size_t d = 0; d < outer; ++d) whole = whole * view[d] + position[d];
    body(local, (whole * view[outer] + box.begin[outer]) * inner, run);
    for (size_t d = outer; d-- > 0;) {
      if (++position[d] < box.begin[d] + box.shape[d]) break;
      position[d] = box.begin[d];
    }
  }
}

}  // namespace entrain
