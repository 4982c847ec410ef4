#include "launcher/standard_output.h"

#include <cstdio>

namespace entrain {

absl::Status FlushStandardOutput() {
  // An earlier write may have failed where this one has nothing left to do.
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return absl::OkStatus();
  return absl::UnavailableError("cannot write to standard output");
}

}  // namespace entrain
