// What choices by measurement are made with: operands that a GPU does not take for idleness, and a stopwatch.
#ifndef ENTRAIN_RUNTIME_KERNELS_MEASURING_CUDA_H_
#define ENTRAIN_RUNTIME_KERNELS_MEASURING_CUDA_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/device/context.h"
#include "runtime/device/cuda_device.h"
#include "runtime/device/cuda_event.h"
#include "runtime/tensor/dtype.h"

namespace entrain::cuda {

// Normal numbers, since a GPU that multiplies zeros draws less power and runs faster. An odd number of them is repeated, so that
// rows differ.
std::vector<char> RandomPattern(DType dtype);
void FillWithPattern(Context& context, void* to, int64_t bytes, const std::vector<char>& pattern);

class Stopwatch {
 public:
  // Milliseconds of the device from before body() to after what it issued. Waits for it.
  template <typename Body>
  double Time(Context& context, Body&& body) {
    begun_.Record(context.cuda().stream);
    body();
    ended_.Record(context.cuda().stream);
    ended_.Wait();
    return 1e3 * ended_.SecondsSince(begun_);
  }

 private:
  CudaEvent begun_{CudaEvent::Timing::kOn};
  CudaEvent ended_{CudaEvent::Timing::kOn};
};

inline double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_MEASURING_CUDA_H_
