// PinnedBuffer: owned host memory that a device copies to and from by itself.
#ifndef ENTRAIN_RUNTIME_DEVICE_PINNED_BUFFER_H_
#define ENTRAIN_RUNTIME_DEVICE_PINNED_BUFFER_H_

#include <cstdint>
#include <utility>

#include "runtime/device/context.h"

namespace entrain {

// For a CUDA device memory that stays where it is; for the CPU plain memory. Its contents are undefined at first. Taking it is slow:
// keep it. It must not be freed while a copy of it is under way.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  PinnedBuffer(DeviceKind device, int64_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept { *this = std::move(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  DeviceKind device_ = DeviceKind::kCpu;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_PINNED_BUFFER_H_
