// RunDevice: on what the ranks of a run compute, and how they exchange what lies there.
#ifndef ENTRAIN_LAUNCHER_RUN_DEVICE_H_
#define ENTRAIN_LAUNCHER_RUN_DEVICE_H_

#include <memory>
#include <string>

#include "launcher/train_config.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/device_collectives.h"
#include "runtime/device/context.h"

namespace entrain {

struct RunDevice {
  std::unique_ptr<Context> context;
  // What the run is for: the context's device, or a GPU for which the CPU stands in.
  DeviceKind kind = DeviceKind::kCpu;
  // "NVIDIA H200, 140 GiB, sm_90 (auto: a usable GPU)": for the banner.
  std::string description;
  // "this run computes on the CPU (train.device = auto: ...)": for messages about what needs a GPU. "" on one.
  std::string on_cpu;
  DeviceCollectives collectives;
};

struct RunDeviceOptions {
  int threads = 0;
  int local_rank = 0;  // among the ranks of this host, which share its GPUs in turn
  // Nothing will be computed: a GPU that is missing here is no error, and the CPU stands in for it.
  bool only_planned = false;
  CommBackend backend = CommBackend::kAuto;  // of what lies in the memory of GPUs
  CommTimeouts timeouts;
};

// Collective over the world: all ranks compute on the same kind of device, or none does. What is made of the device must end
// before it.
absl::StatusOr<RunDevice> ChooseRunDevice(DeviceChoice choice, Communicator& world,
                                          const RunDeviceOptions& options);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_RUN_DEVICE_H_
