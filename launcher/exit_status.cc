#include "launcher/exit_status.h"

#include <cstdio>
#include <string>
#include <utility>

#include "absl/strings/cord.h"

namespace entrain {
namespace {

constexpr char kTold[] = "entrain/told";

bool IsTold(const absl::Status& status) { return status.GetPayload(kTold).has_value(); }

}  // namespace

ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kFinished;
    case absl::StatusCode::kCancelled:
      return ExitCode::kResubmit;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
      return ExitCode::kBadConfig;
    default:
      return ExitCode::kFailed;
  }
}

absl::Status MarkAsTold(absl::Status status) {
  if (!status.ok()) status.SetPayload(kTold, absl::Cord());
  return status;
}

absl::Status Tell(absl::Status status) {
  if (status.ok() || IsTold(status)) return status;
  std::fflush(stdout);
  std::fprintf(stderr, "entrain: %s\n", std::string(status.message()).c_str());
  return MarkAsTold(std::move(status));
}

}  // namespace entrain
