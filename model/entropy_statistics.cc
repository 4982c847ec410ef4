#include "model/entropy_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/base/check.h"
#include "runtime/tensor/tensor_copy.h"

namespace entrain {

double MaxCausalMeanEntropy(int64_t positions) {
  // Not std::lgamma: it writes the process's signgam, and ranks may be threads of one process.
  int sign = 0;
  return lgamma_r(static_cast<double>(positions) + 1.0, &sign) / static_cast<double>(positions);
}

HeadMoments AllocateMoments(Arena& arena, int64_t layers, int64_t heads) {
  return {.sums = arena.Allocate("entropy sums", DType::kF64, {layers, heads, 2}),
          .extremes = arena.Allocate("entropy extremes", DType::kF32, {layers, heads, 2})};
}

void CopyMoments(Context& context, const HeadMoments& from, const HeadMoments& to) {
  CopyTensor(context, from.sums, to.sums);
  CopyTensor(context, from.extremes, to.extremes);
}

std::vector<double> LayerMeans(const HeadTable& table) {
  std::vector<double> means;
  for (const std::vector<double>& layer : table) {
    double sum = 0.0;
    for (const double value : layer) sum += value;
    means.push_back(sum / static_cast<double>(layer.size()));
  }
  return means;
}

std::array<double, 4> BucketShares(const HeadTable& mean_entropy, int64_t positions) {
  const double quarter = MaxCausalMeanEntropy(positions) / 4.0;
  std::array<double, 4> counts = {};
  double heads = 0.0;
  for (const std::vector<double>& layer : mean_entropy) {
    for (const double mean : layer) {
      const bool any = mean > 0.0 && quarter > 0.0;
      counts[any ? static_cast<size_t>(std::min(3.0, mean / quarter)) : 0] += 1.0;
      heads += 1.0;
    }
  }
  for (double& count : counts) count /= std::max(heads, 1.0);
  return counts;
}

void EntropyStatistics::Clear() {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  rows_ = 0;
  moments_.assign(static_cast<size_t>(layers_ * heads_), Moments{0.0, 0.0, kInfinity, -kInfinity});
}

EntropyStatistics EntropyStatistics::Read(Context& context, const HeadMoments& moments,
                                          int64_t rows) {
  EntropyStatistics statistics(moments.sums.dim(0), moments.sums.dim(1));
  std::vector<double> sums = {static_cast<double>(rows)};
  const std::vector<double> heads = ToHost<double>(context, moments.sums);
  sums.insert(sums.end(), heads.begin(), heads.end());
  statistics.Set(sums, ToHost<float>(context, moments.extremes));
  return statistics;
}

void EntropyStatistics::Merge(const EntropyStatistics& other) {
  CHECK_EQ(moments_.size(), other.moments_.size());
  rows_ += other.rows_;
  for (size_t i = 0; i < moments_.size(); ++i) {
    moments_[i].sum += other.moments_[i].sum;
    moments_[i].sum_of_squares += other.moments_[i].sum_of_squares;
    moments_[i].min = std::min(moments_[i].min, other.moments_[i].min);
    moments_[i].max = std::max(moments_[i].max, other.moments_[i].max);
  }
}

std::vector<double> EntropyStatistics::Sums() const {
  std::vector<double> sums = {static_cast<double>(rows_)};
  for (const Moments& head : moments_) {
    sums.push_back(head.sum);
    sums.push_back(head.sum_of_squares);
  }
  return sums;
}

std::vector<float> EntropyStatistics::Extremes() const {
  std::vector<float> extremes;
  for (const Moments& head : moments_) {
    extremes.push_back(-head.min);
    extremes.push_back(head.max);
  }
  return extremes;
}

void EntropyStatistics::Set(const std::vector<double>& sums, const std::vector<float>& extremes) {
  CHECK_EQ(sums.size(), 1 + 2 * moments_.size());
  CHECK_EQ(extremes.size(), 2 * moments_.size());
  rows_ = static_cast<int64_t>(sums[0]);
  for (size_t i = 0; i < moments_.size(); ++i) {
    moments_[i] = {.sum = sums[1 + 2 * i],
                   .sum_of_squares = sums[2 + 2 * i],
                   .min = -extremes[2 * i],
                   .max = extremes[2 * i + 1]};
  }
}

double EntropyStatistics::StandardDeviation(int64_t layer, int64_t head) const {
  const double mean = Mean(layer, head);
  return std::sqrt(std::max(0.0, At(layer, head).sum_of_squares / Count() - mean * mean));
}

HeadTable EntropyStatistics::Means() const {
  HeadTable table(static_cast<size_t>(layers_));
  for (int64_t l = 0; l < layers_; ++l) {
    for (int64_t h = 0; h < heads_; ++h) table[static_cast<size_t>(l)].push_back(Mean(l, h));
  }
  return table;
}

}  // namespace entrain
