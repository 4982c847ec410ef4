// Whether a step's ops become one launch of a GPU (OpGraph), and why not.
#ifndef ENTRAIN_LAUNCHER_STEP_GRAPH_H_
#define ENTRAIN_LAUNCHER_STEP_GRAPH_H_

#include <string>

#include "launcher/train_config.h"
#include "runtime/device/context.h"

namespace entrain {

struct StepGraphChoice {
  bool used = false;
  std::string
      why_not;  // "ranks exchange within a step"; "" on a CPU, which has no launches to save
};

// What train.cuda_graph makes of it. `ranks`: of the world.
StepGraphChoice ChooseStepGraph(const TrainConfig& config, DeviceKind device, int ranks);

// InvalidArgument where train.cuda_graph = on, and it cannot be.
absl::Status CheckStepGraph(const TrainConfig& config, DeviceKind device, int ranks);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_STEP_GRAPH_H_
