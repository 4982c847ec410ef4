// Buffer: owned, zero-filled, 64-byte aligned memory of a device.
#ifndef ENTRAIN_RUNTIME_DEVICE_BUFFER_H_
#define ENTRAIN_RUNTIME_DEVICE_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <utility>

namespace entrain {

// Host memory comes from anonymous mappings: zero, unbacked until touched, in huge pages where the kernel grants them.
// Running out ends the process with the size asked for (callers compare the plan with free memory beforehand).
class Buffer {
 public:
  static constexpr int64_t kAlignment = 64;

  Buffer() = default;
  explicit Buffer(int64_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

  // `bytes` rounded up to the alignment.
  static constexpr int64_t Aligned(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_BUFFER_H_
