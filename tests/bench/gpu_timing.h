// How long ops take on a GPU.
#ifndef ENTRAIN_TESTS_BENCH_GPU_TIMING_H_
#define ENTRAIN_TESTS_BENCH_GPU_TIMING_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/device/cuda_device.h"
#include "runtime/device/cuda_event.h"
#include "runtime/device/device_memory.h"

namespace entrain {

inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0.0 : values[values.size() / 2];
}

// Times ops by events on the context's stream. Before every run the L2 cache is overwritten: operands come from memory, and the
// device is still busy when the op is issued, so that the time of issuing it is not measured.
class GpuTimer {
 public:
  GpuTimer(Context& context, int repetitions, int64_t flush_bytes)
      : context_(context), repetitions_(repetitions), flush_(DeviceKind::kCuda, flush_bytes) {}

  // Median of the repetitions, after one run that is not counted: it may take scratch memory.
  double Seconds(const std::function<void()>& op) {
    op();
    const cudaStream_t stream = context_.cuda().stream;
    CudaEvent begin(CudaEvent::Timing::kOn);
    CudaEvent end(CudaEvent::Timing::kOn);
    std::vector<double> seconds;
    for (int i = 0; i < repetitions_; ++i) {
      FillBytes(context_, flush_.data(), i, flush_.bytes());
      begin.Record(stream);
      op();
      end.Record(stream);
      Synchronize(context_);
      seconds.push_back(end.SecondsSince(begin));
    }
    return Median(seconds);
  }

 private:
  Context& context_;
  int repetitions_;
  Buffer flush_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_BENCH_GPU_TIMING_H_
