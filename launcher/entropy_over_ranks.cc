#include "launcher/entropy_over_ranks.h"

#include <algorithm>

namespace entrain {
namespace {

// mine [layers, heads here, numbers] → [layers, heads of all ranks, numbers], flat.
std::vector<double> Gather(const std::vector<double>& mine, int64_t layers, Communicator& tp) {
  const auto size = static_cast<int64_t>(mine.size());
  std::vector<double> all(static_cast<size_t>(size * tp.size()));
  std::copy(mine.begin(), mine.end(), all.begin() + tp.rank() * size);
  std::vector<ElementRange> ranges;
  for (int64_t r = 0; r < tp.size(); ++r) ranges.push_back({r * size, (r + 1) * size});
  tp.AllGather({all.data(), DType::kF64, {size * tp.size()}}, ranges, "heads");
  // From rank by rank to layer by layer.
  std::vector<double> ordered;
  const int64_t row = size / layers;
  for (int64_t l = 0; l < layers; ++l) {
    for (int64_t r = 0; r < tp.size(); ++r) {
      const auto begin = all.begin() + r * size + l * row;
      ordered.insert(ordered.end(), begin, begin + row);
    }
  }
  return ordered;
}

}  // namespace

MomentsOverRanks::MomentsOverRanks(const HeadMoments& moments, Communicator& dp) {
  if (dp.size() == 1) return;
  summing_ = dp.StartAllReduce(moments.sums, ReduceOp::kSum, "entropy statistics");
  comparing_ = dp.StartAllReduce(moments.extremes, ReduceOp::kMax, "entropy extremes");
}

void MomentsOverRanks::Wait() {
  if (!summing_.valid()) return;
  summing_.Wait();
  comparing_.Wait();
}

EntropyStatistics SumOverRanks(const EntropyStatistics& mine, Communicator& dp) {
  if (dp.size() == 1) return mine;
  std::vector<double> sums = mine.Sums();
  std::vector<float> extremes = mine.Extremes();
  dp.AllReduce({sums.data(), DType::kF64, {static_cast<int64_t>(sums.size())}}, ReduceOp::kSum,
               "entropy statistics");
  dp.AllReduce({extremes.data(), DType::kF32, {static_cast<int64_t>(extremes.size())}},
               ReduceOp::kMax, "entropy extremes");
  EntropyStatistics all = mine;
  all.Set(sums, extremes);
  return all;
}

EntropyStatistics GatherHeads(const EntropyStatistics& mine, Communicator& tp) {
  if (tp.size() == 1) return mine;
  const std::vector<double> sums = mine.Sums();
  const std::vector<float> extremes = mine.Extremes();
  const std::vector<double> all_sums = Gather({sums.begin() + 1, sums.end()}, mine.layers(), tp);
  const std::vector<double> all_extremes =
      Gather({extremes.begin(), extremes.end()}, mine.layers(), tp);
  // The number of rows, of each head, is the same on every rank.
  std::vector<double> with_rows = {sums[0]};
  with_rows.insert(with_rows.end(), all_sums.begin(), all_sums.end());
  EntropyStatistics all(mine.layers(), mine.heads() * tp.size());
  all.Set(with_rows, {all_extremes.begin(), all_extremes.end()});
  return all;
}

HeadTable GatherHeads(const HeadTable& mine, Communicator& tp) {
  if (tp.size() == 1) return mine;
  std::vector<double> flat;
  for (const std::vector<double>& layer : mine) flat.insert(flat.end(), layer.begin(), layer.end());
  const auto layers = static_cast<int64_t>(mine.size());
  const std::vector<double> all = Gather(flat, layers, tp);
  const auto heads = static_cast<std::ptrdiff_t>(all.size() / mine.size());
  HeadTable table;
  for (std::ptrdiff_t l = 0; l < layers; ++l) {
    table.emplace_back(all.begin() + l * heads, all.begin() + (l + 1) * heads);
  }
  return table;
}

}  // namespace entrain
