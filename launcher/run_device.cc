#include "launcher/run_device.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/compute_options.h"
#include "launcher/same_everywhere.h"

namespace entrain {
namespace {

absl::StatusOr<std::unique_ptr<Context>> MakeRunContext(DeviceChoice choice,
                                                        const RunDeviceOptions& options,
                                                        std::string* why) {
  auto context = MakeContext(choice, options.threads, options.local_rank, why);
  if (context.ok() || !options.only_planned || choice != DeviceChoice::kCuda) return context;
  const absl::Status missing = Context::CudaDevices().status();
  *why = absl::StrCat("in place of a GPU: ",
                      std::string((missing.ok() ? context.status() : missing).message()));
  return Context::CreateCpu(options.threads);
}

std::string OnCpu(const Context& context, DeviceChoice choice, const std::string& why) {
  if (context.device() != DeviceKind::kCpu || choice == DeviceChoice::kCuda) return "";
  return absl::StrCat("this run computes on the CPU (train.device = ", why.empty() ? "cpu" : why,
                      ")");
}

// Of one rank, or in a dry run, there is nothing to exchange.
absl::Status CheckBackend(CommBackend backend, Communicator& world, const RunDevice& device,
                          const RunDeviceOptions& options) {
  if (backend != CommBackend::kNccl || device.collectives.nccl || options.only_planned) {
    return absl::OkStatus();
  }
  if (device.context->device() == DeviceKind::kCuda && world.size() == 1) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("parallel.backend = nccl: ",
                   device.collectives.why.empty() ? device.on_cpu : device.collectives.why,
                   R"(; set it to "auto" or "mpi")"));
}

}  // namespace

absl::StatusOr<RunDevice> ChooseRunDevice(DeviceChoice choice, Communicator& world,
                                          const RunDeviceOptions& options) {
  std::string why;
  auto context = MakeRunContext(choice, options, &why);
  RETURN_IF_ERROR(world.Agree(context.status(), "choosing a device"));
  RETURN_IF_ERROR(CheckSameEverywhere(
      world, absl::StrCat("[train] device ", std::string(kDeviceNames.Name((*context)->device()))),
      "the device", "give train.device, or all ranks a GPU or none"));
  RunDevice device{.context = *std::move(context)};
  // Whoever asked for CUDA and got the CPU only plans.
  device.kind = choice == DeviceChoice::kCuda ? DeviceKind::kCuda : device.context->device();
  device.description = device.context->Description();
  device.on_cpu = OnCpu(*device.context, choice, why);
  if (!why.empty()) absl::StrAppend(&device.description, " (", why, ")");
  device.collectives = ChooseDeviceCollectives(
      *device.context, world,
      {.nccl = options.backend != CommBackend::kMpi, .timeouts = options.timeouts});
  RETURN_IF_ERROR(CheckBackend(options.backend, world, device, options));
  return device;
}

}  // namespace entrain
