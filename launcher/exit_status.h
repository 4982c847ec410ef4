// From an error to the program's exit code.
#ifndef ENTRAIN_LAUNCHER_EXIT_STATUS_H_
#define ENTRAIN_LAUNCHER_EXIT_STATUS_H_

#include "absl/status/status.h"
#include "launcher/verdict.h"

namespace entrain {

// kCancelled: saved, to be resubmitted. What the same command line would meet again (a wrong value, a missing file, a lock
// that is held): bad configuration. The rest: failed.
ExitCode ExitCodeOf(const absl::Status& status);

// An error that needs no more telling: main returns its code and prints nothing.
absl::Status MarkAsTold(absl::Status status);

// Prints an error on standard error, behind all that was printed before, unless it was told already; it comes back told.
absl::Status Tell(absl::Status status);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_EXIT_STATUS_H_
