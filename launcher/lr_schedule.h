// The learning rate of a step: a pure function of the step.
#ifndef ENTRAIN_LAUNCHER_LR_SCHEDULE_H_
#define ENTRAIN_LAUNCHER_LR_SCHEDULE_H_

#include <cstdint>

#include "launcher/train_config.h"

namespace entrain {

// The learning rate of the update with index s = `step` in [0, steps), w = warmup_steps, r = (steps - s) / (steps - w):
//
// - s < w: lr * (s + 1) / w. The first update moves, update w - 1 has lr in full.
// - s >= w, constant: lr.
// - s >= w, linear: min_lr + (lr - min_lr) * r. r is 1 at s = w, 0 at s = steps.
// - s >= w, cosine: min_lr + (lr - min_lr) * (1 + cos(pi * (1 - r))) / 2.
//
// So the last update is just above min_lr, which would be that of update `steps`; beyond it stays min_lr. Linear with
// min_lr = 0 is Hugging Face's "linear" and "polynomial" of power 1.
double LearningRate(const OptimizerSection& optimizer, int64_t steps, int64_t step);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_LR_SCHEDULE_H_
