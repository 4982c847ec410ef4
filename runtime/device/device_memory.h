// Between host memory and that of a context's device, in order with the ops issued before. On the CPU: plain copies.
#ifndef ENTRAIN_RUNTIME_DEVICE_DEVICE_MEMORY_H_
#define ENTRAIN_RUNTIME_DEVICE_DEVICE_MEMORY_H_

#include <cstdint>

#include "runtime/device/context.h"

namespace entrain {

// Returns when `host` may change again.
void CopyToDevice(Context& context, const void* host, void* device, int64_t bytes);
// Returns when `host` holds what was there after all ops issued so far.
void CopyToHost(Context& context, const void* device, void* host, int64_t bytes);
// Memory that does not overlap.
void CopyOnDevice(Context& context, const void* from, void* to, int64_t bytes);
// Every byte becomes `byte`.
void FillBytes(Context& context, void* device, int byte, int64_t bytes);
// Returns when all ops issued so far are done.
void Synchronize(Context& context);

// Bytes of the device's memory that are free, and in all; of host memory see launcher/free_memory.
struct DeviceMemory {
  int64_t free = 0;
  int64_t total = 0;
};
DeviceMemory MemoryOf(Context& cuda_context);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_DEVICE_MEMORY_H_
