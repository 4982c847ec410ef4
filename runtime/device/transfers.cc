#include "runtime/device/transfers.h"

#include "runtime/device/dispatch.h"
#include "runtime/device/pinned_buffer.h"

namespace entrain {
ENTRAIN_BACKENDS(void* TakePinnedMemory(int64_t bytes))
ENTRAIN_BACKENDS(void GivePinnedMemory(void* data))
ENTRAIN_BACKENDS(std::unique_ptr<Transfers> MakeTransfers(Context& context))
namespace {

void* Take(DeviceKind device, int64_t bytes) {
  ENTRAIN_DISPATCH_ON(device, TakePinnedMemory, bytes);
}

void Give(DeviceKind device, void* data) { ENTRAIN_DISPATCH_ON(device, GivePinnedMemory, data); }

}  // namespace

PinnedBuffer::PinnedBuffer(DeviceKind device, int64_t bytes) : device_(device), bytes_(bytes) {
  CHECK_GE(bytes, 0);
  if (bytes > 0) data_ = Take(device, bytes);
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ != nullptr) Give(device_, data_);
}

std::unique_ptr<Transfers> Transfers::Create(Context& context) {
  ENTRAIN_DISPATCH_ON(context.device(), MakeTransfers, context);
}

}  // namespace entrain
