// Durations in seconds by the clock that never goes back.
#ifndef ENTRAIN_RUNTIME_BASE_CLOCK_H_
#define ENTRAIN_RUNTIME_BASE_CLOCK_H_

#include <chrono>

namespace entrain {

using SteadyClock = std::chrono::steady_clock;

inline double SecondsBetween(SteadyClock::time_point from, SteadyClock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

inline double SecondsSince(SteadyClock::time_point start) {
  return SecondsBetween(start, SteadyClock::now());
}

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_BASE_CLOCK_H_
