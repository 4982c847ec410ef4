// Trains a configuration on a mesh whose ranks are threads of this process, and keeps what every rank saw.
#ifndef ENTRAIN_TESTS_SUPPORT_MESH_TRAINING_H_
#define ENTRAIN_TESTS_SUPPORT_MESH_TRAINING_H_

#include <functional>
#include <memory>
#include <vector>

#include "launcher/train_config.h"
#include "parallel/mesh.h"

namespace entrain {

// One step as one rank saw it.
struct StepTrace {
  double loss = 0.0;
  double penalty = 0.0;
  double grad_norm = 0.0;
  std::vector<double> entropy;     // E of each head, [L·H]
  std::vector<double> gates;       // [L·H], empty without a regulariser
  std::vector<double> thresholds;  // after the step, [L·H]
  std::vector<float> values;       // every parameter, as dp ranks share it, after the step
  std::vector<float> shared;       // those of them that every tp rank holds
  // The whole tensors, flat and one after another; NaN where another rank holds an element.
  std::vector<float> whole;
};
using RankTrace = std::vector<StepTrace>;

// Of the meshes that tests go through: 4 ranks, or what the environment variable ENTRAIN_MESH_WORLD says.
int LargestMeshWorld();

// Stands between a rank and its world: for tests that break something on purpose.
using WrapWorld = std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator>)>;

// Runs config.train.steps steps on every rank of the mesh; element r is rank r's trace.
std::vector<RankTrace> TrainOnMesh(const TrainConfig& config, const MeshShape& shape,
                                   const WrapWorld& wrap = {});

// A stretch of training between two checkpoints in config.run.dir.
struct Stretch {
  int64_t from = 0;  // the checkpoint that it begins with; 0: fresh
  int64_t to = 0;    // it ends after this step, with a checkpoint
};
// Element r is rank r's trace: first the state it began with (values alone), then a step each.
std::vector<RankTrace> TrainStretch(const TrainConfig& config, const MeshShape& shape,
                                    const Stretch& stretch);

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_MESH_TRAINING_H_
