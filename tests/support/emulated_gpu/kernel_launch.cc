// What a launch is refused for, and what is known of kernels.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "tests/support/emulated_gpu/device_info.h"
#include "tests/support/emulated_gpu/emulated_gpu.h"
#include "tests/support/emulated_gpu/executable_symbols.h"
#include "tests/support/emulated_gpu/kernel_run.h"
#include "tests/support/emulated_gpu/streams.h"

namespace entrain::emulated {
namespace {

constexpr unsigned int kMostGridX = 0x7fffffff;
constexpr unsigned int kMostGridYz = 65535;
constexpr unsigned int kMostBlockZ = 64;

struct Kernel {
  size_t static_bytes = 0;   // of its __shared__ variables
  size_t allowed_bytes = 0;  // of dynamic shared memory
};

// Under the emulator's lock.
Kernel& KernelOf(const void* function) {
  static auto* kernels = new std::unordered_map<const void*, Kernel>();
  const auto [found, is_new] = kernels->try_emplace(function);
  Kernel& kernel = found->second;
  if (is_new) {
    kernel.static_bytes = StaticSharedBytes(function);
    kernel.allowed_bytes = kDefaultSharedBytes - std::min(kDefaultSharedBytes, kernel.static_bytes);
  }
  return kernel;
}

cudaError_t Check(const KernelLaunch& launch) {
  const dim3 grid = launch.grid;
  const dim3 block = launch.block;
  const auto threads = static_cast<uint64_t>(block.x) * block.y * block.z;
  if (threads == 0 || threads > kMostBlockThreads || block.z > kMostBlockZ || grid.x == 0 ||
      grid.y == 0 || grid.z == 0 || grid.x > kMostGridX || grid.y > kMostGridYz ||
      grid.z > kMostGridYz) {
    return cudaErrorInvalidConfiguration;
  }
  return launch.shared_bytes <= KernelOf(launch.kernel).allowed_bytes ? cudaSuccess
                                                                      : cudaErrorInvalidValue;
}

}  // namespace

cudaError_t EnqueueKernel(KernelLaunch launch, cudaStream_t stream) {
  Lock lock = TakeLock();
  cudaError_t error = Check(launch);
  if (error == cudaSuccess) {
    error = Add(lock, stream, {.work = [launch = std::move(launch)] { RunKernel(launch); }});
  }
  return Result(error);
}

}  // namespace entrain::emulated

using namespace entrain::emulated;  // NOLINT: the runtime's calls

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const Lock lock = TakeLock();
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  Kernel& kernel = KernelOf(function);
  if (value < 0 || static_cast<size_t>(value) + kernel.static_bytes > MostSharedBytes()) {
    return Result(cudaErrorInvalidValue);
  }
  kernel.allowed_bytes = static_cast<size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  const Lock lock = TakeLock();
  const Kernel& kernel = KernelOf(function);
  *attributes = {};
  attributes->sharedSizeBytes = kernel.static_bytes;
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(kernel.allowed_bytes);
  attributes->maxThreadsPerBlock = kMostBlockThreads;
  attributes->binaryVersion = attributes->ptxVersion = 90;
  return cudaSuccess;
}
