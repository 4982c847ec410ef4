#include <vector>

#include "runtime/device/cuda_device.h"
#include "runtime/device/cuda_event.h"
#include "runtime/device/timeline.h"

namespace entrain::cuda {
namespace {

class EventTimeline final : public Timeline {
 public:
  explicit EventTimeline(Context& context) : stream_(context.cuda().stream) {}

  void Mark(int i) override {
    CHECK_LE(static_cast<size_t>(i), events_.size());
    if (static_cast<size_t>(i) == events_.size()) {
      events_.push_back(std::make_unique<CudaEvent>(CudaEvent::Timing::kOn));
    }
    events_[static_cast<size_t>(i)]->RecordEachRun(stream_);
  }
  double Seconds(int i, int j) override {
    return events_[static_cast<size_t>(j)]->SecondsSince(*events_[static_cast<size_t>(i)]);
  }

 private:
  cudaStream_t stream_;
  std::vector<std::unique_ptr<CudaEvent>> events_;
};

}  // namespace

std::unique_ptr<Timeline> MakeTimeline(Context& context) {
  return std::make_unique<EventTimeline>(context);
}

}  // namespace entrain::cuda
