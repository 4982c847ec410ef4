// CudaScratch: device memory that an op needs while it runs, kept from one call to the next. Ops hold it in a struct in the
// context's cache.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_SCRATCH_H_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_SCRATCH_H_

#include <cstdint>

#include "runtime/device/buffer.h"

namespace entrain::cuda {

class CudaScratch {
 public:
  // Room for `count` elements, with undefined contents. Until the next call: it may free this memory and take more, for
  // which it waits until the device is done with the old.
  template <typename T>
  T* Take(int64_t count) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    if (buffer_.bytes() < bytes) {
      buffer_ = Buffer();
      buffer_ = Buffer(DeviceKind::kCuda, bytes);
    }
    return static_cast<T*>(buffer_.data());
  }

 private:
  Buffer buffer_;
};

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_SCRATCH_H_
