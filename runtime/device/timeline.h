// Timeline: when the device passed certain points of the ops issued to it.
#ifndef ENTRAIN_RUNTIME_DEVICE_TIMELINE_H_
#define ENTRAIN_RUNTIME_DEVICE_TIMELINE_H_

#include <memory>

#include "runtime/device/context.h"

namespace entrain {

class Timeline {
 public:
  // `context` must outlive it.
  static std::unique_ptr<Timeline> Create(Context& context);
  virtual ~Timeline() = default;
  Timeline() = default;
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  // Point `i`, 0 or the next after those there are, is after the ops issued so far. Recorded in an OpGraph, it is marked again by each run of that.
  virtual void Mark(int i) = 0;
  // From point i to point j, as marked last; all ops must be done.
  virtual double Seconds(int i, int j) = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_TIMELINE_H_
