// Whether what was printed has arrived.
#ifndef ENTRAIN_LAUNCHER_STANDARD_OUTPUT_H_
#define ENTRAIN_LAUNCHER_STANDARD_OUTPUT_H_

#include "absl/status/status.h"

namespace entrain {

// For commands whose result is what they print. Unavailable: a part of it could not be written (a full disk, a closed
// output).
absl::Status FlushStandardOutput();

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_STANDARD_OUTPUT_H_
