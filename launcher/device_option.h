// --device and --threads: from a choice to a context.
#ifndef ENTRAIN_LAUNCHER_DEVICE_OPTION_H_
#define ENTRAIN_LAUNCHER_DEVICE_OPTION_H_

#include <memory>
#include <string>

#include "launcher/train_config.h"
#include "runtime/device/context.h"

namespace entrain {

// "auto" takes the best device there is; "cuda" is refused where the program has no CUDA or no device.
absl::StatusOr<std::unique_ptr<Context>> MakeContext(DeviceChoice choice, int threads);

// The same from a command line's words; the message names the choices.
absl::StatusOr<std::unique_ptr<Context>> MakeContext(const std::string& device, int threads);

// "fp32" or "bf16" → the compute dtype.
absl::StatusOr<DType> ParsePrecision(const std::string& precision);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_DEVICE_OPTION_H_
