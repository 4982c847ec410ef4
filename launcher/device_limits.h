// What a device may lack for a model: found before memory is taken.
#ifndef ENTRAIN_LAUNCHER_DEVICE_LIMITS_H_
#define ENTRAIN_LAUNCHER_DEVICE_LIMITS_H_

#include <cstdint>
#include <string>

#include "model/model.h"
#include "runtime/base/status.h"
#include "runtime/device/context.h"

namespace entrain {

// InvalidArgument when a part of the model is not made for the device: heads that are too wide.
absl::Status CheckModelOnDevice(const ModelConfig& model, DeviceKind device);

// Bytes of the context's memory that this process could still take. −1 when unknown.
int64_t FreeMemory(Context& context);

// ResourceExhausted when `bytes` are more than are free. what: "this model"; advice: what to do instead.
absl::Status CheckFreeMemory(Context& context, int64_t bytes, const std::string& what,
                             const std::string& advice);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_DEVICE_LIMITS_H_
