// Properties of the emulated device.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_DEVICE_INFO_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_DEVICE_INFO_H_

#include <cstddef>

namespace entrain::emulated {

inline constexpr char kDeviceName[] = "emulated GPU";

int Capability();          // · 10
size_t TotalMemory();      // of a device
size_t MostSharedBytes();  // of a block

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_DEVICE_INFO_H_
