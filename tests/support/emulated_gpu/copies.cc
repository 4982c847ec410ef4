// Copies and fills.
#include <cstddef>
#include <cstring>

#include "tests/support/emulated_gpu/device_memory.h"
#include "tests/support/emulated_gpu/streams.h"

namespace entrain::emulated {
namespace {

// A copy of rows; one row when it is not two-dimensional.
struct Copy {
  char* to;
  size_t to_pitch;
  const char* from;
  size_t from_pitch;
  size_t width;
  size_t height;
  cudaMemcpyKind kind;

  size_t to_bytes() const { return (height - 1) * to_pitch + width; }
  size_t from_bytes() const { return (height - 1) * from_pitch + width; }
  bool empty() const { return width == 0 || height == 0; }
};

void Perform(const Copy& copy) {
  const DeviceMemoryAccess access;
  for (size_t row = 0; row < copy.height; ++row) {
    std::memmove(copy.to + row * copy.to_pitch, copy.from + row * copy.from_pitch, copy.width);
  }
}

// Finds the kind out where it is cudaMemcpyDefault. False when the addresses are not what the kind says.
bool CheckKind(Copy& copy) {
  const bool to_device = StartsInDeviceMemory(copy.to);
  const bool from_device = StartsInDeviceMemory(copy.from);
  if (to_device && !OneAllocationHolds(copy.to, copy.to_bytes())) return false;
  if (from_device && !OneAllocationHolds(copy.from, copy.from_bytes())) return false;
  const cudaMemcpyKind kind =
      to_device ? (from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                : (from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  if (copy.kind == cudaMemcpyDefault) copy.kind = kind;
  return copy.kind == kind;
}

// Whether the call may return before the copy is made: no pageable memory takes part.
bool Asynchronous(const Copy& copy) {
  switch (copy.kind) {
    case cudaMemcpyDeviceToDevice:
      return true;
    case cudaMemcpyHostToDevice:
      return PinnedHolds(copy.from, copy.from_bytes());
    case cudaMemcpyDeviceToHost:
      return PinnedHolds(copy.to, copy.to_bytes());
    default:
      return false;
  }
}

cudaError_t CopyAsync(Copy copy, cudaStream_t handle) {
  Lock lock = TakeLock();
  cudaStream_t stream = Find(handle);
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  if (copy.empty()) return cudaSuccess;
  if (!CheckKind(copy)) return Result(cudaErrorInvalidValue);
  const cudaError_t error = Add(lock, handle, {.work = [copy] { Perform(copy); }});
  if (error != cudaSuccess) return Result(error);
  if (stream->capture == nullptr && !Asynchronous(copy)) RunStream(lock, stream);
  return cudaSuccess;
}

cudaError_t CopyNow(Copy copy) {
  Lock lock = TakeLock();
  const cudaError_t error = CheckCapture(nullptr);
  if (error != cudaSuccess) return Result(error);
  if (copy.empty()) return cudaSuccess;
  if (!CheckKind(copy)) return Result(cudaErrorInvalidValue);
  if (copy.kind == cudaMemcpyDeviceToDevice) {
    return Result(Add(lock, nullptr, {.work = [copy] { Perform(copy); }}));
  }
  RunBlockingStreams(lock);
  Perform(copy);
  return cudaSuccess;
}

Copy Row(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return {static_cast<char*>(to), bytes, static_cast<const char*>(from), bytes, bytes, 1, kind};
}

}  // namespace
}  // namespace entrain::emulated

// ---- the runtime's calls ----

using namespace entrain::emulated;  // NOLINT

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return CopyNow(Row(to, from, bytes, kind));
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return CopyAsync(Row(to, from, bytes, kind), stream);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  if (width > to_pitch || width > from_pitch) return Result(cudaErrorInvalidPitchValue);
  return CopyAsync({static_cast<char*>(to), to_pitch, static_cast<const char*>(from), from_pitch,
                    width, height, kind},
                   stream);
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream) {
  Lock lock = TakeLock();
  if (bytes == 0) return cudaSuccess;
  if (!OneAllocationHolds(memory, bytes)) return Result(cudaErrorInvalidValue);
  return Result(Add(lock, stream, {.work = [=] { std::memset(memory, value, bytes); }}));
}

cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  return cudaMemsetAsync(memory, value, bytes, nullptr);
}
