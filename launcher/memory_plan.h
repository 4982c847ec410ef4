// MemoryPlan: what a run takes, known before it is taken.
#ifndef ENTRAIN_LAUNCHER_MEMORY_PLAN_H_
#define ENTRAIN_LAUNCHER_MEMORY_PLAN_H_

#include <cstdint>

#include "launcher/train_config.h"
#include "model/model.h"
#include "parallel/mesh.h"
#include "runtime/device/context.h"

namespace entrain {

// Bytes that a run takes, by kind; what --dry-run prints.
struct MemoryPlan {
  int64_t parameters = 0;   // values held, gradients, bf16 copies
  int64_t optimizer = 0;    // moments
  int64_t factors = 0;      // built matrices of weight and spectral norm
  int64_t activations = 0;  // one micro-step; validation works in the same memory
  int64_t wire = 0;         // gradients as they travel
  int64_t scratch = 0;      // on a GPU: of products, of the rows that attention's backward looks at
  int64_t attention = 0;    // workspace of cuDNN's backward
  int64_t snapshot = 0;     // copy that a background save writes from
  int64_t program = 0;      // code, libraries, their work space, prefetched batches

  int64_t total() const {
    return parameters + optimizer + factors + activations + wire + scratch + attention + snapshot +
           program;
  }
  // What of it lies in the memory of the device that computes; on a GPU the rest is the host's.
  int64_t on_device(DeviceKind device) const {
    return device == DeviceKind::kCpu ? total() : total() - snapshot - program;
  }
};

// On a GPU: the most that matrix products take as workspace, other ops' partial sums, and eight numbers of each row of attention
// that has a backward. Of the CPU's ops: part of the program.
int64_t ScratchBytes(DeviceKind device, int64_t attention_rows);

// Of one rank of the mesh; the model is that rank's part.
MemoryPlan PlanMemory(const TrainConfig& config, const MeshShape& mesh, DeviceKind device,
                      Model& model);

// What there is of a device's memory.
struct DeviceRoom {
  DeviceKind kind = DeviceKind::kCpu;
  int64_t free = -1;  // unknown
  int ranks = 1;      // that take as much of it each
};

// ResourceExhausted, with what takes how much and what to do, when the plan does not fit.
absl::Status CheckFits(const MemoryPlan& plan, const DeviceRoom& room, const TrainConfig& config,
                       int dp);

// Takes memory for the model of this rank. Of fp32 values of which there are bf16 copies, those that it updates are enough.
void AllocateForTraining(const TrainConfig& config, Context& context, const Mesh& mesh,
                         Model& model);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_MEMORY_PLAN_H_
