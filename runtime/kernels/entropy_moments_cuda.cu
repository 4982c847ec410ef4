#include <cmath>

#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/entropy_moments.h"

namespace entrain::cuda {
namespace {

constexpr int kMomentThreads = 1024;
constexpr int kThreads = 256;

// Block l·H + h: head h of layer l. Warp w takes the rows of batch entries w, w + 32, …
__global__ void __launch_bounds__(kMomentThreads)
    EntropyMomentsKernel(const float* entropy, int64_t batch, int64_t heads, int64_t positions,
                         double* sums, float* extremes) {
  __shared__ double scratch[kMaxWarps];
  __shared__ float float_scratch[kMaxWarps];
  const int64_t first_row = blockIdx.x / heads * batch * heads + blockIdx.x % heads;
  double sum = 0.0, sum_of_squares = 0.0;
  float min = entropy[first_row * positions];
  float max = min;
  for (int64_t b = threadIdx.x / kWarp; b < batch; b += kMomentThreads / kWarp) {
    const float* row = entropy + (first_row + b * heads) * positions;
#pragma unroll 4
    for (int64_t t = threadIdx.x % kWarp; t < positions; t += kWarp) {
      const float value = row[t];
      const auto wide = static_cast<double>(value);
      sum += wide;
      sum_of_squares += wide * wide;
      min = MinOf()(value, min);
      max = MaxOf()(value, max);
    }
  }
  sum = BlockReduce(sum, scratch, SumOf());
  sum_of_squares = BlockReduce(sum_of_squares, scratch, SumOf());
  min = BlockReduce(min, float_scratch, MinOf());
  max = BlockReduce(max, float_scratch, MaxOf());
  if (threadIdx.x > 0) return;
  sums[2 * blockIdx.x] = sum;
  sums[2 * blockIdx.x + 1] = sum_of_squares;
  extremes[2 * blockIdx.x] = -min;
  extremes[2 * blockIdx.x + 1] = max;
}

__global__ void __launch_bounds__(kThreads)
    JoinMomentsKernel(const double* more_sums, const float* more_extremes, int64_t count,
                      double* sums, float* extremes) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  sums[i] += more_sums[i];
  extremes[i] = MaxOf()(more_extremes[i], extremes[i]);
}

__global__ void __launch_bounds__(kThreads)
    KeepMeansKernel(const double* sums, double rows, const float* unless_nan, int64_t heads,
                    float* mean) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= heads || std::isnan(*unless_nan)) return;
  mean[i] = static_cast<float>(sums[2 * i] / rows);
}

}  // namespace

void EntropyMoments(Context& context, const TensorView& entropy, const HeadMoments& moments) {
  const int64_t count = entropy.dim(0) * entropy.dim(2);  // of heads, in all layers
  if (count == 0) return;
  Launch(EntropyMomentsKernel, static_cast<unsigned>(count), kMomentThreads, 0,
         context.cuda().stream, entropy.data<float>(), entropy.dim(1), entropy.dim(2),
         entropy.dim(3), moments.sums.data<double>(), moments.extremes.data<float>());
}

void JoinMoments(Context& context, const HeadMoments& added, const HeadMoments& total) {
  const int64_t count = added.sums.size();
  if (count == 0) return;
  Launch(JoinMomentsKernel, BlocksFor(count, kThreads), kThreads, 0, context.cuda().stream,
         added.sums.data<double>(), added.extremes.data<float>(), count, total.sums.data<double>(),
         total.extremes.data<float>());
}

void KeepMeans(Context& context, const KeepMeansArgs& args) {
  const int64_t heads = args.mean.size();
  if (heads == 0) return;
  Launch(KeepMeansKernel, BlocksFor(heads, kThreads), kThreads, 0, context.cuda().stream,
         args.sums.data<double>(), static_cast<double>(args.rows), args.unless_nan.data<float>(),
         heads, args.mean.data<float>());
}

}  // namespace entrain::cuda
