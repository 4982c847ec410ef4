#include "launcher/device_limits.h"

#include "absl/strings/str_format.h"
#include "launcher/free_memory.h"
#include "runtime/device/device_memory.h"
#include "runtime/kernels/attention.h"

namespace entrain {

absl::Status CheckModelOnDevice(const ModelConfig& model, DeviceKind device) {
  const int64_t width = model.head_width();
  const int64_t most = MostHeadWidth(device);
  if (width <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "model.heads = %d makes heads of width %d of model.width = %d, and a GPU takes heads of "
      "width up to %d: raise model.heads to %d or more, or compute on the CPU",
      model.heads, width, model.width, most, (model.width + most - 1) / most));
}

int64_t FreeMemory(Context& context) {
  return context.device() == DeviceKind::kCpu ? AvailableMemory() : MemoryOf(context).free;
}

absl::Status CheckFreeMemory(Context& context, int64_t bytes, const std::string& what,
                             const std::string& advice) {
  const int64_t available = FreeMemory(context);
  if (available < 0 || bytes <= available) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "%s needs about %.2f GB%s and %.2f GB are free; %s", what, static_cast<double>(bytes) / 1e9,
      context.device() == DeviceKind::kCpu ? "" : " of GPU memory",
      static_cast<double>(available) / 1e9, advice));
}

}  // namespace entrain
