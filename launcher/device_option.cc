#include "launcher/device_option.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/nearest_name.h"

namespace entrain {
namespace {

template <typename Table>
absl::Status UnknownChoice(const char* option, const std::string& value, const Table& table) {
  return absl::InvalidArgumentError(absl::StrCat(option, " ", value, " is not one of ",
                                                 absl::StrJoin(table.Names(), ", "),
                                                 DidYouMean(value, table.Names())));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Context>> MakeContext(DeviceChoice choice, int threads) {
  if (choice == DeviceChoice::kCuda) {
    return absl::FailedPreconditionError(
        "device = cuda: this build has the CPU backend only; use device = cpu or auto");
  }
  return Context::CreateCpu(threads);
}

absl::StatusOr<std::unique_ptr<Context>> MakeContext(const std::string& device, int threads) {
  const auto choice = kDeviceChoiceNames.Find(device);
  if (!choice) return UnknownChoice("--device", device, kDeviceChoiceNames);
  return MakeContext(*choice, threads);
}

absl::StatusOr<DType> ParsePrecision(const std::string& precision) {
  const auto choice = kPrecisionNames.Find(precision);
  if (!choice) return UnknownChoice("--precision", precision, kPrecisionNames);
  return *choice == Precision::kBf16 ? DType::kBf16 : DType::kF32;
}

}  // namespace entrain
