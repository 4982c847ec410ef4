#include "launcher/step_graph.h"

#include "absl/strings/str_cat.h"

namespace entrain {
namespace {

// What keeps the host busy within a step; "": nothing.
std::string Obstacle(const TrainConfig& config, DeviceKind device, int ranks) {
  if (device == DeviceKind::kCpu) return "the CPU computes";
  if (ranks > 1) return "ranks exchange within a step";
  if (config.model.ffn_weight_norm == WeightNorm::kSpectral) {
    return "spectral norm's power iteration is judged by the host";
  }
  return "";
}

}  // namespace

StepGraphChoice ChooseStepGraph(const TrainConfig& config, DeviceKind device, int ranks) {
  const std::string obstacle = Obstacle(config, device, ranks);
  if (device == DeviceKind::kCpu) return {};
  if (config.train.cuda_graph == OnOff::kOff) return {.why_not = "train.cuda_graph = off"};
  return {.used = obstacle.empty(), .why_not = obstacle};
}

absl::Status CheckStepGraph(const TrainConfig& config, DeviceKind device, int ranks) {
  const std::string obstacle = Obstacle(config, device, ranks);
  if (config.train.cuda_graph != OnOff::kOn || obstacle.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("train.cuda_graph = on: a step cannot be one CUDA graph here: ", obstacle,
                   "; use auto, which takes a graph where there can be one, or off"));
}

}  // namespace entrain
