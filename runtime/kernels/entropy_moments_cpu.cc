#include <algorithm>
#include <cmath>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/entropy_moments.h"

namespace entrain::cpu {
namespace {

struct Moments {
  double sum = 0.0;
  double sum_of_squares = 0.0;
  float min;
  float max;

  void AddRow(const float* entropy, int64_t size) {
    for (int64_t i = 0; i < size; ++i) {
      const double value = entropy[i];
      sum += value;
      sum_of_squares += value * value;
      min = std::min(min, entropy[i]);
      max = std::max(max, entropy[i]);
    }
  }
};

}  // namespace

void EntropyMoments(Context& context, const TensorView& entropy, const HeadMoments& moments) {
  const int64_t batch = entropy.dim(1);
  const int64_t heads = entropy.dim(2);
  const int64_t positions = entropy.dim(3);
  auto* sums = moments.sums.data<double>();
  auto* extremes = moments.extremes.data<float>();
  ParallelFor(context, entropy.dim(0) * heads, [&](int64_t i) {
    const int64_t first_row = i / heads * batch * heads + i % heads;
    const float first = *entropy.row<float>(first_row);
    Moments head = {.min = first, .max = first};
    for (int64_t b = 0; b < batch; ++b) {
      head.AddRow(entropy.row<float>(first_row + b * heads), positions);
    }
    sums[2 * i] = head.sum;
    sums[2 * i + 1] = head.sum_of_squares;
    extremes[2 * i] = -head.min;
    extremes[2 * i + 1] = head.max;
  });
}

void JoinMoments(Context& /*context*/, const HeadMoments& added, const HeadMoments& total) {
  const auto* more_sums = added.sums.data<double>();
  const auto* more_extremes = added.extremes.data<float>();
  auto* sums = total.sums.data<double>();
  auto* extremes = total.extremes.data<float>();
  for (int64_t i = 0; i < added.sums.size(); ++i) {
    sums[i] += more_sums[i];
    extremes[i] = std::max(extremes[i], more_extremes[i]);
  }
}

void KeepMeans(Context& /*context*/, const KeepMeansArgs& args) {
  if (std::isnan(*args.unless_nan.data<float>())) return;
  const auto* sums = args.sums.data<double>();
  auto* mean = args.mean.data<float>();
  for (int64_t i = 0; i < args.mean.size(); ++i) {
    mean[i] = static_cast<float>(sums[2 * i] / static_cast<double>(args.rows));
  }
}

}  // namespace entrain::cpu
