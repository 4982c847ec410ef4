// StepMemory: what a training step's ops work in.
#ifndef ENTRAIN_LAUNCHER_STEP_MEMORY_H_
#define ENTRAIN_LAUNCHER_STEP_MEMORY_H_

#include <cstdint>

#include "launcher/train_config.h"
#include "model/model.h"
#include "runtime/device/context.h"
#include "runtime/tensor/arena.h"

namespace entrain {

struct StepMemory {
  Activations activations;
  TensorView tokens;  // i32 [micro-steps, 2, R]: inputs and targets
  TensorView
      verdict;  // f64 [2]: mean loss, and what the penalty's sum is: not finite, no update is made
  HeadMoments moments;  // of all micro-steps and dp ranks
};
// Laid out anew for each step, at the same place.
StepMemory LayOutStep(Arena& arena, const TrainConfig& config, int dp, DeviceKind device,
                      const Model& model);

// What a trainer works in: a step, or validation of as many sequences at a time. That one may take more: its logits are fp32, and
// of a recomputed step there is not much else.
int64_t TrainerBytes(const TrainConfig& config, int dp, DeviceKind device, const Model& model);

// A micro-step's on one of `dp` ranks.
ActivationLayout TrainingLayout(const TrainConfig& config, int dp, DeviceKind device);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_STEP_MEMORY_H_
