// On what a command computes: --device, --precision and --threads, and from a choice to a context.
#ifndef ENTRAIN_LAUNCHER_COMPUTE_OPTIONS_H_
#define ENTRAIN_LAUNCHER_COMPUTE_OPTIONS_H_

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "launcher/train_config.h"
#include "runtime/device/context.h"

namespace entrain {

// Why this program cannot compute there: what is missing and what to choose instead; nothing if it can.
std::optional<std::string> DeviceRefusal(DeviceChoice choice);

// "auto" takes the best device there is. `threads`: 0 for one a core.
absl::StatusOr<std::unique_ptr<Context>> MakeContext(DeviceChoice choice, int threads);

// The options of a command that runs a model but does not train it.
struct ComputeOptions {
  std::string device = "auto";
  std::string precision = "fp32";
  int threads = 0;
};

void AddComputeOptions(CLI::App& command, ComputeOptions* options);

// Of options that were parsed.
absl::StatusOr<std::unique_ptr<Context>> MakeContext(const ComputeOptions& options);
DType ComputeDType(const ComputeOptions& options);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_COMPUTE_OPTIONS_H_
