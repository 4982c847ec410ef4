#include "runtime/device/buffer.h"

#include "runtime/base/check.h"
#include "runtime/device/dispatch.h"

namespace entrain {
ENTRAIN_BACKENDS(void* TakeMemory(int64_t bytes))
ENTRAIN_BACKENDS(void GiveMemory(void* data, int64_t bytes))
namespace {

void* Take(DeviceKind device, int64_t bytes) { ENTRAIN_DISPATCH_ON(device, TakeMemory, bytes); }

void Give(DeviceKind device, void* data, int64_t bytes) {
  ENTRAIN_DISPATCH_ON(device, GiveMemory, data, bytes);
}

}  // namespace

Buffer::Buffer(DeviceKind device, int64_t bytes) : device_(device), bytes_(bytes) {
  CHECK_GE(bytes, 0);
  if (bytes > 0) data_ = Take(device, bytes);
}

Buffer::~Buffer() {
  if (data_ != nullptr) Give(device_, data_, bytes_);
}

}  // namespace entrain
