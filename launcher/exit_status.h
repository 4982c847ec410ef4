// From an error to the program's exit code.
#ifndef ENTRAIN_LAUNCHER_EXIT_STATUS_H_
#define ENTRAIN_LAUNCHER_EXIT_STATUS_H_

#include "absl/status/status.h"
#include "launcher/verdict.h"

namespace entrain {

// kCancelled: saved, to be resubmitted. What the same command line would meet again (a wrong value, a missing file, a lock
// that is held): bad configuration. The rest: failed.
ExitCode ExitCodeOf(const absl::Status& status);

// An error that another rank tells: main returns its code and prints nothing.
absl::Status MarkAsTold(absl::Status status);
bool IsTold(const absl::Status& status);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_EXIT_STATUS_H_
