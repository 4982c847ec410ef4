// DeviceFacts: what a run wants to know of the GPU behind a context, beside its description.
#ifndef ENTRAIN_RUNTIME_DEVICE_DEVICE_FACTS_H_
#define ENTRAIN_RUNTIME_DEVICE_DEVICE_FACTS_H_

#include <string>

#include "runtime/device/context.h"
#include "runtime/device/gpu_limits.h"

namespace entrain {

// Of a CPU context: nothing.
struct DeviceFacts {
  std::string identity;  // names the GPU among those of all hosts
  GpuLimits limits;
};

DeviceFacts FactsOf(const Context& context);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_DEVICE_FACTS_H_
