#include "parallel/owned_ranges.h"

#include <algorithm>

namespace entrain {
namespace {

// Elements of a row of a parameter's shard.
int64_t RowElements(const ShardSpec& shard) {
  int64_t elements = 1;
  for (size_t d = 1; d < shard.box.shape.size(); ++d) elements *= shard.box.shape[d];
  return elements;
}

// The border of a row at or before `at`; a parameter's padding belongs to its last row.
int64_t RowBorder(const ParamSet& params, int64_t at) {
  if (at >= params.flat_size()) return params.flat_size();
  int last = 0;
  while (last + 1 < params.size() && params.offset({last + 1}) <= at) ++last;
  const ParamId id{last};
  const int64_t row = RowElements(params.spec(id).shard);
  const int64_t rows = (at - params.offset(id)) / row;
  const int64_t held = params.spec(id).shard.box.shape[0];
  if (rows >= held && last + 1 < params.size()) return params.offset({last + 1});
  return rows >= held ? params.flat_size() : params.offset(id) + rows * row;
}

}  // namespace

std::vector<ElementRange> OwnedRanges(const ParamSet& params, int ranks) {
  std::vector<ElementRange> ranges = EvenRanges(params.flat_size(), ranks);
  int64_t begin = 0;
  for (ElementRange& range : ranges) {
    const bool last = &range == &ranges.back();
    const int64_t end = last ? params.flat_size() : RowBorder(params, range.end);
    range = {begin, std::max(begin, end)};
    begin = range.end;
  }
  return ranges;
}

int64_t LargestOwned(const ParamSet& params, int ranks) {
  int64_t largest = 0;
  for (const ElementRange& range : OwnedRanges(params, ranks)) {
    largest = std::max(largest, range.size());
  }
  return largest;
}

OwnedPart PartOf(const ParamSet& params, ParamId id, const ElementRange& range) {
  const int64_t offset = params.offset(id);
  const ShardSpec& shard = params.spec(id).shard;
  OwnedPart part{Common(params.FlatRange(id), range), shard.box};
  const int64_t row = RowElements(shard);
  const int64_t first = (part.flat.begin - offset) / row;
  const int64_t end = std::min((part.flat.end - offset + row - 1) / row, shard.box.shape[0]);
  part.box.begin[0] += std::min(first, shard.box.shape[0]);
  part.box.shape[0] = part.flat.size() > 0 ? std::max<int64_t>(end - first, 0) : 0;
  return part;
}

}  // namespace entrain
