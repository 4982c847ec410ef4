#include "runtime/kernels/entropy_penalty_cpu.h"

#include <cmath>

#include "runtime/device/parallel_for.h"

namespace entrain::cpu {
namespace {

// Rows of one (b, h); adds to `sum`.
void PenalizeRows(const RowPenaltyArgs& args, double threshold, const float* entropy,
                  float* gradient, HeadPenalty* sum) {
  const int64_t positions = args.entropy.dim(2);
  for (int64_t i = 0; i < positions; ++i) {
    const double max = args.max_entropy[i];
    const double delta = entropy[i] - threshold * max;
    const double gate = std::abs(delta) > args.margin * max ? 1.0 : 0.0;
    const double g = args.scale * delta * gate;
    sum->penalty += delta * delta * gate;
    sum->open_rows += gate;
    sum->threshold_gradient -= max * g;
    if (gradient != nullptr) gradient[i] = static_cast<float>(g);
  }
}

}  // namespace

void RowPenalty(Context& context, const RowPenaltyArgs& args, HeadPenalty* sums) {
  const int64_t batch = args.entropy.dim(0);
  const int64_t heads = args.entropy.dim(1);
  const int64_t positions = args.entropy.dim(2);
  ParallelFor(context, heads, [&](int64_t h) {
    sums[h] = {};
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t offset = (b * heads + h) * positions;
      PenalizeRows(args, args.threshold.data<float>()[h], args.entropy.data<float>() + offset,
                   args.gradient ? args.gradient.data<float>() + offset : nullptr, &sums[h]);
    }
  });
}

}  // namespace entrain::cpu
