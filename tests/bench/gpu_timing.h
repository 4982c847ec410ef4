// What a GPU can do at most, and how long ops take on it.
#ifndef ENTRAIN_TESTS_BENCH_GPU_TIMING_H_
#define ENTRAIN_TESTS_BENCH_GPU_TIMING_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/device/cuda_device.h"
#include "runtime/device/cuda_event.h"
#include "runtime/device/device_memory.h"

namespace entrain {

// Of the data sheet; 0: not known.
struct GpuLimits {
  double bf16_flops = 0.0;  // dense, tensor cores
  double bytes = 0.0;       // of device memory, a second
};

inline GpuLimits LimitsOf(std::string_view device) {
  struct Known {
    std::string_view part;  // of the device's name; the first that fits counts
    GpuLimits limits;
  };
  static constexpr Known kKnown[] = {
      {"H200 NVL", {835e12, 4.8e12}},
      {"H200", {989e12, 4.8e12}},
      {"H100 PCIe", {756e12, 2.0e12}},
      {"H100 NVL", {835e12, 3.9e12}},
      {"H100", {989e12, 3.35e12}},
      {"A100-SXM4-40GB", {312e12, 1.555e12}},
      {"A100-PCIE-40GB", {312e12, 1.555e12}},
      {"A100", {312e12, 2.0e12}},
  };
  for (const Known& known : kKnown) {
    if (device.find(known.part) != std::string_view::npos) return known.limits;
  }
  return {};
}

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
