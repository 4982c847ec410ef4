// How much a rank sends in a step: what --dry-run prints for any mesh.
#ifndef ENTRAIN_LAUNCHER_COMMUNICATION_PLAN_H_
#define ENTRAIN_LAUNCHER_COMMUNICATION_PLAN_H_

#include "launcher/train_config.h"
#include "model/model.h"
#include "parallel/mesh.h"

namespace entrain {

// Bytes that one rank sends in an optimizer step over each axis, as the collectives do it: of a vector of S bytes over n
// ranks 2(n−1)/n · S for an all-reduce, (n−1)/n · S for a reduce-scatter or an all-gather. Left out: sums of a few numbers a
// head or unit (entropies, the norm, re-parameterised matrices).
struct CommunicationPlan {
  double dp = 0.0;
  double tp = 0.0;
};

// `model` is a rank's part of the mesh.
CommunicationPlan PlanCommunication(const TrainConfig& config, const MeshShape& mesh,
                                    const Model& model);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_COMMUNICATION_PLAN_H_
