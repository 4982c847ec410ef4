#include "launcher/utc_time.h"

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace entrain {

std::string UtcNow() {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::Now(), absl::UTCTimeZone());
}

}  // namespace entrain
