#include "launcher/state_on_host.h"

#include <utility>

#include "runtime/device/device_memory.h"

namespace entrain {
namespace {

int64_t BytesOnDevice(const std::vector<StateTensor>& tensors) {
  int64_t bytes = 0;
  for (const StateTensor& tensor : tensors) {
    if (tensor.device != DeviceKind::kCpu) bytes += BytesOf(tensor);
  }
  return bytes;
}

}  // namespace

StateOnHost::StateOnHost(Context& context, std::vector<StateTensor> tensors)
    : context_(context),
      tensors_(std::move(tensors)),
      memory_(BytesOnDevice(tensors_)),
      host_(tensors_) {
  auto* place = static_cast<float*>(memory_.data());
  for (StateTensor& tensor : host_) {
    if (tensor.device == DeviceKind::kCpu) continue;
    tensor.data = place;
    tensor.device = DeviceKind::kCpu;
    place += tensor.box.elements();
  }
}

void StateOnHost::Pull() {
  for (size_t i = 0; i < host_.size(); ++i) {
    if (tensors_[i].device == DeviceKind::kCpu) continue;
    CopyToHost(context_, tensors_[i].data, host_[i].data, BytesOf(host_[i]));
  }
}

void StateOnHost::Push() {
  for (size_t i = 0; i < host_.size(); ++i) {
    if (tensors_[i].device == DeviceKind::kCpu) continue;
    CopyToDevice(context_, host_[i].data, tensors_[i].data, BytesOf(host_[i]));
  }
}

}  // namespace entrain
