#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/device/context.h"
#include "runtime/device/cuda_check.h"
#include "runtime/device/cuda_device.h"

namespace entrain {
namespace {

constexpr int kLeastCapability = 80;  // mma.sync on bf16, cp.async

std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

// What the runtime says when it finds no device, in terms of what to do about it.
absl::Status NoDevice(cudaError_t error) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) {
    return absl::FailedPreconditionError(
        "this machine has no NVIDIA driver (is this a login node, or a container without GPUs?)");
  }
  if (error == cudaErrorInsufficientDriver) {
    return absl::FailedPreconditionError(absl::StrCat("the NVIDIA driver here is for CUDA ",
                                                      VersionText(driver), ", this program needs ",
                                                      VersionText(CUDART_VERSION), " or newer"));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("no CUDA device is usable: ", cudaGetErrorString(error),
                   " (is CUDA_VISIBLE_DEVICES empty?)"));
}

absl::StatusOr<std::shared_ptr<CudaDevice>> Examine(int ordinal) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, ordinal);
      error != cudaSuccess) {
    return NoDevice(error);
  }
  auto device = std::make_shared<CudaDevice>();
  device->ordinal = ordinal;
  device->name = properties.name;
  device->capability = 10 * properties.major + properties.minor;
  device->multiprocessors = properties.multiProcessorCount;
  device->memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  device->shared_bytes = static_cast<int64_t>(properties.sharedMemPerBlockOptin);
  return device;
}

}  // namespace

CudaDevice::~CudaDevice() {
  if (stream != nullptr) cudaStreamDestroy(stream);
}

namespace cuda {

absl::StatusOr<int> CountCudaDevices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    return NoDevice(error != cudaSuccess ? error : cudaErrorNoDevice);
  }
  return count;
}

absl::StatusOr<std::shared_ptr<const CudaDevice>> OpenCudaDevice(int ordinal) {
  ASSIGN_OR_RETURN(const int count, CountCudaDevices());
  if (ordinal < 0 || ordinal >= count) {
    return absl::InvalidArgumentError(absl::StrCat("there is no CUDA device ", ordinal,
                                                   " among the ", count, " that are visible, 0 .. ",
                                                   count - 1));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<CudaDevice> device, Examine(ordinal));
  if (device->capability < kLeastCapability) {
    return absl::FailedPreconditionError(
        absl::StrCat(device->name, " is of compute capability ", device->capability / 10, ".",
                     device->capability % 10, ", the CUDA backend needs 8.0 (A100) or newer"));
  }
  if (const cudaError_t error = cudaSetDevice(ordinal); error != cudaSuccess) {
    return NoDevice(error);
  }
  CHECK_CUDA(cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking));
  return std::shared_ptr<const CudaDevice>(std::move(device));
}

std::string Describe(const Context& context) {
  const CudaDevice& device = context.cuda();
  return absl::StrCat(device.name, ", ", device.memory_bytes >> 30, " GiB, sm_", device.capability);
}

}  // namespace cuda
}  // namespace entrain
