#include "launcher/step_memory.h"

#include <algorithm>

#include "launcher/evaluator.h"

namespace entrain {

ActivationLayout TrainingLayout(const TrainConfig& config, int dp, DeviceKind device) {
  return {.batch = config.micro_batch(dp),
          .positions = config.model.context,
          .compute = config.compute_dtype(),
          .training = true,
          .recompute = config.train.recompute,
          .logits = {.rows = Head::ChunkRows(device), .dtype = DTypeFor(config.train.logits)}};
}

StepMemory LayOutStep(Arena& arena, const TrainConfig& config, int dp, DeviceKind device,
                      const Model& model) {
  StepMemory memory;
  memory.activations =
      model.transformer().AllocateActivations(arena, TrainingLayout(config, dp, device));
  const Activations& a = memory.activations;
  memory.tokens =
      arena.Allocate("tokens of a step", DType::kI32, {config.accumulation(dp), 2, a.rows()});
  memory.verdict = arena.Allocate("loss and penalty", DType::kF64, {2});
  memory.moments = config.accumulation(dp) == 1
                       ? a.moments
                       : AllocateMoments(arena, a.entropy.dim(0), a.entropy.dim(2));
  return memory;
}

int64_t TrainerBytes(const TrainConfig& config, int dp, DeviceKind device, const Model& model) {
  Arena step;
  LayOutStep(step, config, dp, device, model);
  return std::max(step.peak_bytes(),
                  EvaluationBytes(model, config.compute_dtype(), device, config.micro_batch(dp)));
}

}  // namespace entrain
