#include <cmath>
#include <vector>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/entropy_penalty.h"

namespace entrain::cpu {
namespace {

struct Deviation {
  double delta;
  double gate;

  Deviation(double entropy, double threshold, double max, double margin)
      : delta(entropy - threshold * max), gate(std::abs(delta) > margin * max ? 1.0 : 0.0) {}
  double penalty() const { return delta * delta * gate; }
};

// A gradient is the first of a step, or is added to what micro-steps before it left.
void PutGradient(double gradient, bool accumulate, float* sum) {
  *sum = static_cast<float>((accumulate ? static_cast<double>(*sum) : 0.0) + gradient);
}

}  // namespace

void HeadPenalty(Context& /*context*/, const HeadPenaltyArgs& args) {
  const double scale = 2.0 * *args.strength.data<double>() / static_cast<double>(args.count);
  const int64_t heads = args.gradient.dim(1);
  auto* measured = args.measured.data<double>();
  double sum = 0.0;
  for (int64_t i = 0; i < args.gradient.size(); ++i) {
    const int64_t l = i / heads, h = i % heads;
    const double mean = args.sums ? args.sums.data<double>()[2 * i] / static_cast<double>(args.rows)
                                  : static_cast<double>(args.mean.data<float>()[i]);
    const Deviation head(mean, args.threshold.row<float>(l)[h], args.max_entropy, args.margin);
    const double gradient = scale * head.delta * head.gate;
    args.gradient.data<float>()[i] = static_cast<float>(gradient);
    PutGradient(-args.max_entropy * gradient * static_cast<double>(args.gradient_rows),
                args.accumulate, args.threshold_gradient.row<float>(l) + h);
    measured[1 + i] += head.gate;
    sum += head.penalty();
  }
  measured[0] += sum;
}

void RowPenalty(Context& context, const RowPenaltyArgs& args) {
  const int64_t batch = args.entropy.dim(1), heads = args.entropy.dim(2);
  const int64_t positions = args.entropy.dim(3);
  const auto* max = args.max_entropy.data<double>();
  auto* measured = args.measured.data<double>();
  std::vector<double> penalties(static_cast<size_t>(args.threshold.size()));
  ParallelFor(context, args.threshold.size(), [&](int64_t i) {
    const int64_t l = i / heads, h = i % heads;
    const double threshold = args.threshold.row<float>(l)[h];
    double penalty = 0.0, open = 0.0;
    for (int64_t b = 0; b < batch; ++b) {
      const float* entropy = args.entropy.row<float>((l * batch + b) * heads + h);
      for (int64_t t = 0; t < positions; ++t) {
        const Deviation row(entropy[t], threshold, max[t], args.margin);
        penalty += row.penalty();
        open += row.gate;
      }
    }
    penalties[static_cast<size_t>(i)] = penalty;
    measured[1 + i] += open;
  });
  double sum = 0.0;
  for (const double penalty : penalties) sum += penalty;
  measured[0] += sum;
}

void RowPenaltyGradient(Context& context, const RowPenaltyGradientArgs& args) {
  const double scale = 2.0 * *args.strength.data<double>() / static_cast<double>(args.count);
  const int64_t batch = args.entropy.dim(0), heads = args.entropy.dim(1);
  const int64_t positions = args.entropy.dim(2);
  const auto* max = args.max_entropy.data<double>();
  ParallelFor(context, heads, [&](int64_t h) {
    const double threshold = args.threshold.data<float>()[h];
    double sum = 0.0;
    for (int64_t b = 0; b < batch; ++b) {
      const float* entropy = args.entropy.row<float>(b * heads + h);
      auto* gradient = args.gradient.row<float>(b * heads + h);
      for (int64_t t = 0; t < positions; ++t) {
        const Deviation row(entropy[t], threshold, max[t], args.margin);
        const double g = scale * row.delta * row.gate;
        sum -= max[t] * g;
        gradient[t] = static_cast<float>(g);
      }
    }
    PutGradient(sum, args.accumulate, args.threshold_gradient.data<float>() + h);
  });
}

}  // namespace entrain::cpu
