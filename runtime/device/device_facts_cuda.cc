#include <cuda_runtime.h>

#include <fstream>

#include "absl/strings/str_format.h"
#include "runtime/device/cuda_check.h"
#include "runtime/device/cuda_device.h"
#include "runtime/device/device_facts.h"

namespace entrain::cuda {
namespace {

// The same in all containers of a host, and on no other host.
std::string HostId() {
  std::string id;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), id);
  return id;
}

}  // namespace

DeviceFacts FactsOf(const Context& context) {
  const CudaDevice& device = context.cuda();
  cudaDeviceProp properties;
  CHECK_CUDA(cudaGetDeviceProperties(&properties, device.ordinal));
  return {.identity = absl::StrFormat("%s %04x:%02x:%02x", HostId(), properties.pciDomainID,
                                      properties.pciBusID, properties.pciDeviceID),
          .limits = LimitsOf(device.name)};
}

}  // namespace entrain::cuda
