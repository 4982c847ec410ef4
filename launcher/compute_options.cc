#include "launcher/compute_options.h"

#include "absl/strings/str_cat.h"
#include "launcher/command_line.h"

namespace entrain {

std::optional<std::string> DeviceRefusal(DeviceChoice choice) {
  if (choice != DeviceChoice::kCuda) return std::nullopt;
  return R"(this build has no CUDA backend; set it to "cpu" or "auto")";
}

absl::StatusOr<std::unique_ptr<Context>> MakeContext(DeviceChoice choice, int threads) {
  if (const auto refusal = DeviceRefusal(choice)) {
    return absl::FailedPreconditionError(absl::StrCat("device = cuda: ", *refusal));
  }
  return Context::CreateCpu(threads);
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
  return MakeContext(*kDeviceChoiceNames.Find(options.device), options.threads);
}

DType ComputeDType(const ComputeOptions& options) {
  const bool bf16 = *kPrecisionNames.Find(options.precision) == Precision::kBf16;
  return bf16 ? DType::kBf16 : DType::kF32;
}

}  // namespace entrain
