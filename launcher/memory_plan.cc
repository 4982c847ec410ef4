#include "launcher/memory_plan.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/step_memory.h"
#include "launcher/train_state.h"
#include "parallel/adamw_optimizer.h"
#include "parallel/gradient_buckets.h"
#include "runtime/kernels/matmul.h"

namespace entrain {
namespace {

// Code, shared libraries, the matrix products' work space: measured (tests/bench/RESULTS.md).
constexpr int64_t kProgramBytes = int64_t{32} << 20;

double Gigabytes(int64_t bytes) { return static_cast<double>(bytes) / 1e9; }

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

absl::Status CheckFits(const MemoryPlan& plan, const DeviceRoom& room, const TrainConfig& config,
                       int dp) {
  const int64_t wanted = plan.on_device(room.kind);
  if (room.free < 0 || wanted * room.ranks <= room.free) return absl::OkStatus();
  const bool gpu = room.kind != DeviceKind::kCpu;
  const bool snapshot = plan.snapshot > 0 && !gpu;
  std::string parts = absl::StrFormat("parameters %.2f, optimizer %.2f, activations %.2f",
                                      Gigabytes(plan.parameters), Gigabytes(plan.optimizer),
                                      Gigabytes(plan.activations));
  if (plan.attention > 0) {
    absl::StrAppendFormat(
        &parts, R"(, workspace of cuDNN's attention %.2f, without train.attention = "entrain")",
        Gigabytes(plan.attention));
  }
  if (snapshot) {
    absl::StrAppendFormat(&parts, ", copy for background saves %.2f", Gigabytes(plan.snapshot));
  }
  return absl::ResourceExhaustedError(absl::StrFormat(
      "this run needs about %.2f GB%s%s and %.2f GB are free%s (%s); lower train.micro_batch = %d, "
      "set train.recompute = true, %sor take a smaller model",
      Gigabytes(wanted), gpu ? " of GPU memory" : "", room.ranks > 1 ? " a rank" : "",
      Gigabytes(room.free),
      room.ranks > 1 ? absl::StrCat(" for the ", room.ranks, " ranks there") : "", parts,
      config.micro_batch(dp), snapshot ? "set checkpoint.background = false, " : ""));
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
