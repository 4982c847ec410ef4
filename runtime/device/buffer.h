// Buffer: owned, zero-filled, aligned memory of a device.
#ifndef ENTRAIN_RUNTIME_DEVICE_BUFFER_H_
#define ENTRAIN_RUNTIME_DEVICE_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "runtime/device/context.h"

namespace entrain {

// Host memory comes from anonymous mappings: zero, unbacked until touched, in huge pages where the kernel grants them. CUDA
// memory is that of the process's device; host code may only pass its address on.
// Running out ends the process with the size asked for (callers compare the plan with free memory beforehand).
class Buffer {
 public:
  // Of every start, and of what an arena lays out: a cache line, which is four of a GPU thread's widest loads.
  static constexpr int64_t kAlignment = 64;

  Buffer() = default;
  // Host memory.
  explicit Buffer(int64_t bytes) : Buffer(DeviceKind::kCpu, bytes) {}
  Buffer(DeviceKind device, int64_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  DeviceKind device() const { return device_; }
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

  // `bytes` rounded up to the alignment.
  static constexpr int64_t Aligned(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

 private:
  DeviceKind device_ = DeviceKind::kCpu;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_BUFFER_H_
