#include "launcher/compute_options.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/command_line.h"

namespace entrain {

namespace {

absl::StatusOr<std::unique_ptr<Context>> MakeCudaContext(int threads, int local_rank) {
  ASSIGN_OR_RETURN(const int devices, Context::CudaDevices());
  return Context::CreateCuda(local_rank % devices, threads);
}

// `option`: by which the choice was made.
absl::StatusOr<std::unique_ptr<Context>> MakeChosen(DeviceChoice choice, const char* option,
                                                    int threads, int local_rank, std::string* why) {
  if (why != nullptr) why->clear();
  if (choice == DeviceChoice::kCpu) return Context::CreateCpu(threads);
  absl::StatusOr<std::unique_ptr<Context>> cuda = MakeCudaContext(threads, local_rank);
  const std::string missing(cuda.status().message());
  if (choice == DeviceChoice::kCuda && !cuda.ok()) {
    return absl::Status(
        cuda.status().code(),
        absl::StrCat(option, " cuda: ", missing, "; to compute on the CPU give it cpu or auto"));
  }
  if (choice == DeviceChoice::kAuto && why != nullptr) {
    *why = cuda.ok() ? "auto: a usable GPU" : absl::StrCat("auto: ", missing);
  }
  return cuda.ok() ? std::move(cuda) : Context::CreateCpu(threads);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Context>> MakeContext(DeviceChoice choice, int threads,
                                                     int local_rank, std::string* why) {
  return MakeChosen(choice, "train.device =", threads, local_rank, why);
}

void AddComputeOptions(CLI::App& command, ComputeOptions* options) {
  command.add_option("--device", options->device, "Where to compute")
      ->check(OneOf(kDeviceChoiceNames.Names()))
      ->capture_default_str();
  command
      .add_option("--precision", options->precision, "Of the matrix products and what they read")
      ->check(OneOf(kPrecisionNames.Names()))
      ->capture_default_str();
  command.add_option("--threads", options->threads, "0: one a core")
      ->check(IntegerFrom(0, 1024))
      ->capture_default_str();
}

absl::StatusOr<std::unique_ptr<Context>> MakeContext(const ComputeOptions& options) {
  return MakeChosen(*kDeviceChoiceNames.Find(options.device), "--device", options.threads, 0,
                    nullptr);
}

DType ComputeDType(const ComputeOptions& options) {
  const bool bf16 = *kPrecisionNames.Find(options.precision) == Precision::kBf16;
  return bf16 ? DType::kBf16 : DType::kF32;
}

}  // namespace entrain
