// On what a command computes: --device, --precision and --threads, and from a choice to a context.
#ifndef ENTRAIN_LAUNCHER_COMPUTE_OPTIONS_H_
#define ENTRAIN_LAUNCHER_COMPUTE_OPTIONS_H_

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "launcher/train_config.h"
#include "runtime/device/context.h"

namespace entrain {

// "auto" takes a GPU when one is usable, else the CPU. `threads`: 0 for one a core. local_rank: of this process among those
// of the host, which share its GPUs in turn. The error of a GPU that was asked for names train.device, says what is missing and what
// to choose instead. *why, unless null: why auto took what it took; "" when it was not asked to choose.
absl::StatusOr<std::unique_ptr<Context>> MakeContext(DeviceChoice choice, int threads,
                                                     int local_rank = 0,
                                                     std::string* why = nullptr);

// The options of a command that runs a model but does not train it.
struct ComputeOptions {
  std::string device = "auto";
  std::string precision = "fp32";
  int threads = 0;
};

void AddComputeOptions(CLI::App& command, ComputeOptions* options);

// Of options that were parsed; the error names --device.
absl::StatusOr<std::unique_ptr<Context>> MakeContext(const ComputeOptions& options);
DType ComputeDType(const ComputeOptions& options);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_COMPUTE_OPTIONS_H_
