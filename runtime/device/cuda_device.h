// CudaDevice: what CUDA ops need to know of a context's device.
#ifndef ENTRAIN_RUNTIME_DEVICE_CUDA_DEVICE_H_
#define ENTRAIN_RUNTIME_DEVICE_CUDA_DEVICE_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

namespace entrain {

struct CudaDevice {
  CudaDevice() = default;
  ~CudaDevice();
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  int ordinal = 0;
  std::string name;
  int capability = 0;       // 80, 90: major · 10 + minor
  int multiprocessors = 0;  // SMs
  int64_t memory_bytes = 0;
  int64_t shared_bytes = 0;  // that a block may ask for
  // All ops of the context are issued here. It does not wait for the default stream.
  cudaStream_t stream = nullptr;
};

namespace cuda {

// How many Buffers of CUDA memory this process has freed: when it grows, addresses that ops used may be others'.
int64_t CudaBuffersFreed();

}  // namespace cuda
}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_CUDA_DEVICE_H_
