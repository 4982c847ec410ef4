#include <cuda_runtime.h>

#include "runtime/device/cuda_check.h"
#include "runtime/device/cuda_device.h"
#include "runtime/device/device_memory.h"

namespace entrain::cuda {
namespace {

void Copy(Context& context, const void* from, void* to, int64_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return;
  CHECK_CUDA(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, context.cuda().stream));
}

}  // namespace

void Synchronize(Context& context) { CHECK_CUDA(cudaStreamSynchronize(context.cuda().stream)); }

void CopyToDevice(Context& context, const void* host, void* device, int64_t bytes) {
  Copy(context, host, device, bytes, cudaMemcpyHostToDevice);
  cuda::Synchronize(context);
}

void CopyToHost(Context& context, const void* device, void* host, int64_t bytes) {
  Copy(context, device, host, bytes, cudaMemcpyDeviceToHost);
  cuda::Synchronize(context);
}

void CopyOnDevice(Context& context, const void* from, void* to, int64_t bytes) {
  Copy(context, from, to, bytes, cudaMemcpyDeviceToDevice);
}

void FillBytes(Context& context, void* device, int byte, int64_t bytes) {
  if (bytes == 0) return;
  CHECK_CUDA(cudaMemsetAsync(device, byte, static_cast<size_t>(bytes), context.cuda().stream));
}

DeviceMemory MemoryOf(Context& /*context*/) {
  size_t free = 0, total = 0;
  CHECK_CUDA(cudaMemGetInfo(&free, &total));
  return {static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

}  // namespace entrain::cuda
