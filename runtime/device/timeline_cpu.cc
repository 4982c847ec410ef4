#include <chrono>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/device/timeline.h"

namespace entrain::cpu {
namespace {

// Ops are done when they return.
class ClockTimeline final : public Timeline {
 public:
  void Mark(int i) override {
    CHECK_LE(static_cast<size_t>(i), times_.size());
    if (static_cast<size_t>(i) == times_.size()) times_.emplace_back();
    times_[static_cast<size_t>(i)] = Clock::now();
  }
  double Seconds(int i, int j) override {
    return std::chrono::duration<double>(times_[static_cast<size_t>(j)] -
                                         times_[static_cast<size_t>(i)])
        .count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> times_;
};

}  // namespace

std::unique_ptr<Timeline> MakeTimeline(Context& /*context*/) {
  return std::make_unique<ClockTimeline>();
}

}  // namespace entrain::cpu
