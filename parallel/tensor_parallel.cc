#include "parallel/tensor_parallel.h"

#include <vector>

#include "runtime/base/check.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/residual.h"

namespace entrain {
namespace {

TensorView Flat(const TensorView& x) { return x.Reshape({x.size()}); }

// Every rank's share of the rows, in elements.
std::vector<ElementRange> RowRanges(const TensorView& all, int ranks) {
  std::vector<ElementRange> ranges = EvenRanges(all.rows(), ranks);
  for (ElementRange& range : ranges) {
    range = {range.begin * all.dim(-1), range.end * all.dim(-1)};
  }
  return ranges;
}

}  // namespace

TensorParallel TensorParallel::Planned(int ranks, bool sequence_parallel) {
  TensorParallel planned;
  planned.place_ = {0, ranks};
  planned.sequence_parallel_ = sequence_parallel && ranks > 1;
  return planned;
}

int64_t TensorParallel::Share(int64_t size) const {
  CHECK_EQ(size % place_.ranks, 0) << size << " over " << place_.ranks << " tensor-parallel ranks";
  return size / place_.ranks;
}

int64_t TensorParallel::StreamRows(int64_t rows) const {
  if (!sequence_parallel_) return rows;
  return EvenRanges(rows, size())[static_cast<size_t>(rank())].size();
}

void TensorParallel::Sum(const TensorView& x, std::string_view what) const {
  if (size() > 1) comm_->AllReduce(Flat(x), ReduceOp::kSum, what);
}

void TensorParallel::Max(const TensorView& x, std::string_view what) const {
  if (size() > 1) comm_->AllReduce(Flat(x), ReduceOp::kMax, what);
}

TensorView TensorParallel::ShareOfRows(const TensorView& all) const {
  const ElementRange share = EvenRanges(all.rows(), size())[static_cast<size_t>(rank())];
  return all.Rows(share.begin, share.size());
}

void TensorParallel::GatherShares(const TensorView& all, std::string_view what) const {
  if (size() > 1) comm_->AllGather(Flat(all), RowRanges(all, size()), what);
}

TensorParallel::Part TensorParallel::BeginSum(const TensorView& target, const TensorView& addend,
                                              const TensorView& scratch) const {
  if (sequence_parallel_) return {scratch, {}};
  // What every rank has is part of the sum once: the first rank's.
  return {target, rank() == 0 ? addend : TensorView()};
}

void TensorParallel::EndSum(Context& context, const TensorView& target, const TensorView& addend,
                            const Part& part, std::string_view what) const {
  if (!sequence_parallel_) return Sum(target, what);
  comm_->ReduceScatter(Flat(part.out), RowRanges(part.out, size()), what);
  const TensorView sum = ShareOfRows(part.out);
  if (addend) {
    ResidualForward(context, {.y = addend, .f = sum, .out = target});
  } else {
    Cast(context, sum, target);
  }
}

}  // namespace entrain
