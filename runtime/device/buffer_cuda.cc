#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "runtime/base/check.h"
#include "runtime/device/cuda_check.h"
#include "runtime/device/cuda_device.h"

namespace entrain::cuda {
namespace {

std::atomic<int64_t> buffers_freed = 0;

}  // namespace

void* TakeMemory(int64_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    CHECK(false) << "out of GPU memory: " << bytes << " bytes asked for, " << free << " of "
                 << total << " are free";
  }
  CheckCuda(error, "cudaMalloc");
  CHECK_CUDA(cudaMemset(data, 0, static_cast<size_t>(bytes)));
  // Streams that do not wait for the default one must find the zeros.
  CHECK_CUDA(cudaStreamSynchronize(nullptr));
  return data;
}

// At the end of a process that lost its device there is nothing left to free.
void GiveMemory(void* data, int64_t /*bytes*/) {
  ++buffers_freed;
  cudaFree(data);
}

int64_t CudaBuffersFreed() { return buffers_freed; }

}  // namespace entrain::cuda
