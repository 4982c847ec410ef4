#include <cstring>

#include "runtime/base/check.h"
#include "runtime/device/device_memory.h"

namespace entrain::cpu {
namespace {

void Copy(const void* from, void* to, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

}  // namespace

void CopyToDevice(Context& /*context*/, const void* host, void* device, int64_t bytes) {
  Copy(host, device, bytes);
}

void CopyToHost(Context& /*context*/, const void* device, void* host, int64_t bytes) {
  Copy(device, host, bytes);
}

void CopyOnDevice(Context& /*context*/, const void* from, void* to, int64_t bytes) {
  Copy(from, to, bytes);
}

void FillBytes(Context& /*context*/, void* device, int byte, int64_t bytes) {
  if (bytes > 0) std::memset(device, byte, static_cast<size_t>(bytes));
}

void Synchronize(Context& /*context*/) {}

DeviceMemory MemoryOf(Context& /*context*/) {
  CHECK(false) << "of a CUDA context only";
  return {};
}

}  // namespace entrain::cpu
