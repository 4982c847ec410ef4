#include "launcher/step_graph.h"

#include "absl/strings/str_cat.h"

namespace entrain {
namespace {

// What keeps the host busy within a step; "": nothing.
std::string Obstacle(DeviceKind device, int ranks) {
  if (device == DeviceKind::kCpu) return "the CPU computes";
  return ranks > 1 ? "ranks exchange within a step" : "";
}

}  // namespace

StepGraphChoice ChooseStepGraph(const TrainConfig& config, DeviceKind device, int ranks) {
  const std::string obstacle = Obstacle(device, ranks);
  if (device == DeviceKind::kCpu) return {};
  if (config.train.cuda_graph == OnOff::kOff) return {.why_not = "train.cuda_graph = off"};
  return {.used = obstacle.empty(), .why_not = obstacle};
}

absl::Status CheckStepGraph(const TrainConfig& config, DeviceKind device, int ranks) {
  const std::string obstacle = Obstacle(device, ranks);
  if (config.train.cuda_graph != OnOff::kOn || obstacle.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("train.cuda_graph = on: a step cannot be one CUDA graph here: ", obstacle,
                   "; use auto, which takes a graph where there can be one, or off"));
}

}  // namespace entrain
