#include "runtime/device/context.h"

#include <sched.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/device/dispatch.h"
#include "runtime/device/processor.h"

namespace entrain {
ENTRAIN_BACKENDS(absl::StatusOr<int> CountCudaDevices())
ENTRAIN_BACKENDS(absl::StatusOr<std::shared_ptr<const CudaDevice>> OpenCudaDevice(int ordinal))
ENTRAIN_BACKENDS(std::string Describe(const Context& context))
namespace {

constexpr int kMaxThreads = 1024;
constexpr DeviceKind kCudaBackend = kCudaIsBuiltIn ? DeviceKind::kCuda : DeviceKind::kCpu;

absl::StatusOr<std::shared_ptr<const CudaDevice>> Open(int ordinal) {
  ENTRAIN_DISPATCH_ON(kCudaBackend, OpenCudaDevice, ordinal);
}

}  // namespace

int Context::AllowedCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return CPU_COUNT(&set);
}

absl::StatusOr<std::unique_ptr<Context>> Context::Create(DeviceKind device, int num_threads) {
  RETURN_IF_ERROR(CheckInstructionSet());
  if (num_threads < 0 || num_threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads = ", num_threads, " is not in 0 .. ", kMaxThreads));
  }
  if (num_threads == 0) num_threads = AllowedCores();
  UseThreads(num_threads);
  return std::unique_ptr<Context>(new Context(device, num_threads));
}

absl::StatusOr<std::unique_ptr<Context>> Context::CreateCpu(int num_threads) {
  return Create(DeviceKind::kCpu, num_threads);
}

absl::StatusOr<int> Context::CudaDevices() { ENTRAIN_DISPATCH_ON(kCudaBackend, CountCudaDevices); }

absl::StatusOr<std::unique_ptr<Context>> Context::CreateCuda(int ordinal, int num_threads) {
  ASSIGN_OR_RETURN(std::shared_ptr<const CudaDevice> device, Open(ordinal));
  ASSIGN_OR_RETURN(std::unique_ptr<Context> context, Create(DeviceKind::kCuda, num_threads));
  context->cuda_ = std::move(device);
  return context;
}

std::string Context::Description() const { ENTRAIN_DISPATCH_ON(device_, Describe, *this); }

}  // namespace entrain
