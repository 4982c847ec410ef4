#include "launcher/exit_status.h"

namespace entrain {

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

}  // namespace entrain
