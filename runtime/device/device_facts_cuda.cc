#include <cuda_runtime.h>

#include "absl/strings/str_format.h"
#include "runtime/device/cuda_check.h"
#include "runtime/device/cuda_device.h"
#include "runtime/device/device_facts.h"

namespace entrain::cuda {

DeviceFacts FactsOf(const Context& context) {
  const CudaDevice& device = context.cuda();
  cudaDeviceProp properties;
  CHECK_CUDA(cudaGetDeviceProperties(&properties, device.ordinal));
  return {.identity = absl::StrFormat("%s %04x:%02x:%02x", HostIdentity(), properties.pciDomainID,
                                      properties.pciBusID, properties.pciDeviceID),
          .limits = LimitsOf(device.name)};
}

}  // namespace entrain::cuda
