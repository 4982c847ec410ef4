#include "runtime/device/device_memory.h"

#include "runtime/device/dispatch.h"

namespace entrain {
ENTRAIN_BACKENDS(void CopyToDevice(Context& context, const void* host, void* device, int64_t bytes))
ENTRAIN_BACKENDS(void CopyToHost(Context& context, const void* device, void* host, int64_t bytes))
ENTRAIN_BACKENDS(void CopyOnDevice(Context& context, const void* from, void* to, int64_t bytes))
ENTRAIN_BACKENDS(void FillBytes(Context& context, void* device, int byte, int64_t bytes))
ENTRAIN_BACKENDS(void Synchronize(Context& context))
ENTRAIN_BACKENDS(DeviceMemory MemoryOf(Context& context))

void CopyToDevice(Context& context, const void* host, void* device, int64_t bytes) {
  ENTRAIN_DISPATCH(CopyToDevice, context, host, device, bytes);
}

void CopyToHost(Context& context, const void* device, void* host, int64_t bytes) {
  ENTRAIN_DISPATCH(CopyToHost, context, device, host, bytes);
}

void CopyOnDevice(Context& context, const void* from, void* to, int64_t bytes) {
  ENTRAIN_DISPATCH(CopyOnDevice, context, from, to, bytes);
}

void FillBytes(Context& context, void* device, int byte, int64_t bytes) {
  ENTRAIN_DISPATCH(FillBytes, context, device, byte, bytes);
}

void Synchronize(Context& context) { ENTRAIN_DISPATCH_ON(context.device(), Synchronize, context); }

DeviceMemory MemoryOf(Context& cuda_context) {
  CHECK(cuda_context.device() == DeviceKind::kCuda);
  ENTRAIN_DISPATCH_ON(cuda_context.device(), MemoryOf, cuda_context);
}

}  // namespace entrain
