#include "launcher/memory_plan.h"

#include <algorithm>
#include <vector>

#include "launcher/step_memory.h"
#include "launcher/train_state.h"
#include "parallel/adamw_optimizer.h"
#include "parallel/gradient_buckets.h"
#include "runtime/kernels/matmul.h"

namespace entrain {
namespace {

// Code, shared libraries, the matrix products' work space: measured (tests/bench/RESULTS.md).
constexpr int64_t kProgramBytes = int64_t{32} << 20;

// Of attention that has a backward: in one micro-step, on one rank.
int64_t AttentionRows(const TrainConfig& config, const MeshShape& mesh) {
  return config.micro_batch(mesh.dp) * config.model.context * config.model.heads / mesh.tp;
}

std::vector<ElementRange> UpdatedRanges(const TrainConfig& config, int dp, const ParamSet& params) {
  return AdamWOptimizer::RangesOf(params, dp, static_cast<int>(config.parallel.zero));
}

// Of the rank that holds most.
int64_t ParameterBytes(const TrainConfig& config, const MeshShape& mesh, const ParamSet& params) {
  int64_t most = 0;
  for (const ElementRange& range : UpdatedRanges(config, mesh.dp, params)) {
    most = std::max(most, params.BytesNeeded(config.compute_dtype(), true, range));
  }
  return most;
}

}  // namespace

int64_t ScratchBytes(DeviceKind device, int64_t attention_rows) {
  if (device == DeviceKind::kCpu) return 0;
  constexpr int64_t kOfSums = int64_t{32} << 20;
  constexpr int64_t kOfARow = 8 * sizeof(float);
  return kMostMatmulWorkspace + kOfSums + kOfARow * attention_rows;
}

void AllocateForTraining(const TrainConfig& config, Context& context, const Mesh& mesh,
                         Model& model) {
  const Communicator& dp = mesh.dp();
  const std::vector<ElementRange> ranges = UpdatedRanges(config, dp.size(), model.params());
  model.Allocate(context, config.compute_dtype(), true, ranges[static_cast<size_t>(dp.rank())]);
}

MemoryPlan PlanMemory(const TrainConfig& config, const MeshShape& mesh, DeviceKind device,
                      Model& model) {
  return {.parameters = ParameterBytes(config, mesh, model.params()),
          .optimizer = AdamWOptimizer::BytesNeeded(model.params(), mesh.dp,
                                                   static_cast<int>(config.parallel.zero)),
          .factors = model.FactorBytes(config.compute_dtype()),
          .activations = TrainerBytes(config, mesh.dp, device, model),
          .wire = GradientBuckets::BytesNeeded(model.params(), mesh.dp, config.wire_dtype()),
          .scratch = ScratchBytes(device, AttentionRows(config, mesh)),
          .snapshot = config.checkpoint.background ? MostBytesToWrite(model, mesh.dp) : 0,
          .program = kProgramBytes};
}

}  // namespace entrain
