// What memory an address is in. Host code cannot touch device memory: its pages are readable and writable only while work runs.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_DEVICE_MEMORY_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_DEVICE_MEMORY_H_

#include <cstddef>
#include <string>

namespace entrain::emulated {

// For as long as one lives device memory is accessible. Under the emulator's lock.
class DeviceMemoryAccess {
 public:
  DeviceMemoryAccess();
  ~DeviceMemoryAccess();
  DeviceMemoryAccess(const DeviceMemoryAccess&) = delete;
  DeviceMemoryAccess& operator=(const DeviceMemoryAccess&) = delete;
};

// These are called under the emulator's lock, or when the process is about to end.
bool StartsInDeviceMemory(const void* address);
bool OneAllocationHolds(const void* start, size_t bytes);  // of device memory
bool PinnedHolds(const void* start, size_t bytes);         // one allocation of pinned memory
// "3 past the end of an allocation of 64 bytes"
std::string DescribeAddress(const void* address);
// Whether an address is in the pages of an allocation or their guard pages.
bool IsNearDeviceMemory(const void* address);

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_DEVICE_MEMORY_H_
