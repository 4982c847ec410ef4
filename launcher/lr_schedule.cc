#include "launcher/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace entrain {
namespace {

// What is left of the decay: 1 at its first step, 0 from `steps` on.
double Remaining(int64_t steps, int64_t warmup_steps, int64_t step) {
  if (step >= steps) return 0.0;
  return static_cast<double>(steps - step) / static_cast<double>(steps - warmup_steps);
}

}  // namespace

double LearningRate(const OptimizerSection& optimizer, int64_t steps, int64_t step) {
  const double lr = optimizer.lr;
  const int64_t warmup_steps = optimizer.warmup_steps;
  if (step < warmup_steps) {
    return lr * (static_cast<double>(step + 1) / static_cast<double>(warmup_steps));
  }
  const double remaining = Remaining(steps, warmup_steps, step);
  const double span = lr - optimizer.min_lr;
  switch (optimizer.schedule) {
    case Schedule::kConstant:
      return lr;
    case Schedule::kLinear:
      return optimizer.min_lr + span * remaining;
    case Schedule::kCosine:
      return optimizer.min_lr + span * 0.5 * (1.0 + std::cos(std::numbers::pi * (1.0 - remaining)));
  }
  return lr;
}

}  // namespace entrain
