// The time of day, for files that people read.
#ifndef ENTRAIN_LAUNCHER_UTC_TIME_H_
#define ENTRAIN_LAUNCHER_UTC_TIME_H_

#include <string>

namespace entrain {

// RFC 3339, to the second: "2026-01-31T12:00:00Z".
std::string UtcNow();

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_UTC_TIME_H_
