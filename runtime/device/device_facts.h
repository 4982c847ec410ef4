// DeviceFacts: what a run wants to know of the device behind a context, beside its description.
#ifndef ENTRAIN_RUNTIME_DEVICE_DEVICE_FACTS_H_
#define ENTRAIN_RUNTIME_DEVICE_DEVICE_FACTS_H_

#include <string>

#include "runtime/device/context.h"
#include "runtime/device/gpu_limits.h"

namespace entrain {

struct DeviceFacts {
  std::string identity;  // names the GPU, or the host, among those of all hosts
  GpuLimits limits;      // of a GPU
};

DeviceFacts FactsOf(const Context& context);

// The same in all containers of a host, and on no other host.
std::string HostIdentity();

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_DEVICE_FACTS_H_
