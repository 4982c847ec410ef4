// WarmUp: a step with nothing read and nothing applied, for what ops learn when they first run: which products there are.
#ifndef ENTRAIN_LAUNCHER_TUNING_WARM_UP_H_
#define ENTRAIN_LAUNCHER_TUNING_WARM_UP_H_

#include "launcher/train_config.h"
#include "model/model.h"
#include "parallel/mesh.h"
#include "runtime/device/context.h"

namespace entrain {

// Micro-steps of every kind that a step has, in memory of its own. The model has memory; its values, gradients and states are any
// afterwards, and are to be set before training. Collective over tp.
void WarmUp(const TrainConfig& config, Context& context, const Mesh& mesh, Model& model);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TUNING_WARM_UP_H_
