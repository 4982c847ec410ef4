// A block takes a row. Threads read columns in fixed strides, so that the number of columns alone determines the order of a sum.
#include <limits>
#include <numbers>

#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cross_entropy.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"

namespace entrain::cuda {
namespace {

constexpr int kMaxThreads = 512;
// Loads of a thread that are under way at a time.
constexpr int kLoads = 4;
// Threads of a kernel that has no block for a row.
constexpr int kFlatThreads = 256;
constexpr float kLog2E = std::numbers::log2e_v<float>;
constexpr float kLeast = std::numeric_limits<float>::lowest();
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Logits and their padding: columns [0, count) are tokens, [count, width) are not.
struct LogitRows {
  float* data;
  int64_t stride;
  int64_t first_token;
  int count;
  int width;

  __device__ float* row(int64_t i) const { return data + i * stride; }
};

LogitRows RowsOf(const TensorView& logits, const VocabRange& vocab) {
  return {.data = logits.data<float>(),
          .stride = logits.row_stride(),
          .first_token = vocab.first_token,
          .count = static_cast<int>(vocab.count),
          .width = static_cast<int>(logits.dim(-1))};
}

int ThreadsFor(const TensorView& logits) { return logits.dim(-1) >= 16384 ? kMaxThreads : 128; }

// Column of a row's target, −1 when it is not among these.
__device__ __forceinline__ int TargetColumn(const LogitRows& logits, int32_t target) {
  const int64_t column = target - logits.first_token;
  return 0 <= column && column < logits.count ? static_cast<int>(column) : -1;
}

// exp(logit − max). The difference comes first: logits far from 0 lose nothing.
__device__ __forceinline__ float ShiftedExponential(float logit, float max) {
  return Exp2((logit - max) * kLog2E);
}

// Logits of a vector's columns, −∞ in place of those behind the last: no larger than any, and with an exponential of 0.
template <int n>
__device__ __forceinline__ void LoadLast(const float* logits, int column, int count,
                                         float (&values)[n]) {
  if (column + n <= count) {
    LoadVector(logits + column, values);
    return;
  }
#pragma unroll
  for (int i = 0; i < n; ++i) {
    values[i] = column + i < count ? logits[column + i] : kMinusInfinity;
  }
}

// The same for vectors at `column` and every `step` behind it; mostly one branch for all, so that the loads go out together.
template <int n>
__device__ __forceinline__ void LoadLogits(const float* logits, int column, int step, int count,
                                           float (&values)[kLoads][n]) {
  if (column + (kLoads - 1) * step + n <= count) {
#pragma unroll
    for (int k = 0; k < kLoads; ++k) LoadVector(logits + column + k * step, values[k]);
  } else {
#pragma unroll
    for (int k = 0; k < kLoads; ++k) LoadLast(logits, column + k * step, count, values[k]);
  }
}

// Σ exp(logit) = sum · exp(max), max the largest logit, of the columns of one thread.
struct Normalizer {
  float max = kLeast;
  float sum = 0.0F;
};

// A NaN stays out of max and makes the sum NaN; so does +∞, as ∞ − ∞.
template <int n>
__device__ __forceinline__ void Add(const float (&logits)[kLoads][n], Normalizer* normalizer) {
  float max = normalizer->max;
#pragma unroll
  for (int k = 0; k < kLoads; ++k) {
#pragma unroll
    for (int i = 0; i < n; ++i) max = fmaxf(max, logits[k][i]);
  }
  float sum = normalizer->sum * ShiftedExponential(normalizer->max, max);
#pragma unroll
  for (int k = 0; k < kLoads; ++k) {
#pragma unroll
    for (int i = 0; i < n; ++i) sum += ShiftedExponential(logits[k][i], max);
  }
  *normalizer = {max, sum};
}

// A thread adds about a hundred exponentials in fp32; threads' sums meet in fp64.
template <int n>
__global__ void __launch_bounds__(kMaxThreads)
    SoftmaxStatisticsKernel(LogitRows logits, const int32_t* targets, float* maxima, double* sums,
                            double* target_logits) {
  __shared__ float warp_maxima[kMaxWarps];
  __shared__ double warp_sums[kMaxWarps];
  const int64_t row = blockIdx.x;
  const float* from = logits.row(row);
  const int step = static_cast<int>(blockDim.x) * n;
  Normalizer mine;
  for (int first = static_cast<int>(threadIdx.x) * n; first < logits.count;
       first += step * kLoads) {
    float values[kLoads][n];
    LoadLogits(from, first, step, logits.count, values);
    Add(values, &mine);
  }
  const float max = BlockReduce(mine.max, warp_maxima, MaxOf());
  const double sum =
      BlockReduce(double{mine.sum * ShiftedExponential(mine.max, max)}, warp_sums, SumOf());
  if (threadIdx.x != 0) return;
  const int target = TargetColumn(logits, targets[row]);
  maxima[row] = max;
  sums[row] = sum;
  target_logits[row] = target < 0 ? 0.0 : double{from[target]};
}

__global__ void __launch_bounds__(kFlatThreads)
    SoftmaxRescaleKernel(int64_t rows, const float* from, const float* to, double* sums) {
  const int64_t row = int64_t{blockIdx.x} * kFlatThreads + threadIdx.x;
  if (row < rows) sums[row] *= exp(double{from[row]} - double{to[row]});
}

__global__ void __launch_bounds__(kFlatThreads)
    LossKernel(int64_t rows, const float* maxima, const double* sums, const double* target_logits,
               float* losses) {
  const int64_t row = int64_t{blockIdx.x} * kFlatThreads + threadIdx.x;
  if (row >= rows) return;
  losses[row] = static_cast<float>(double{maxima[row]} - target_logits[row] + log(sums[row]));
}

// What the elements of a row's gradient have in common.
struct RowGradient {
  float max;
  float inverse;
  float scale;
  int count;
  int target;

  // Overwrites the logits of the columns from `column` on.
  template <int n>
  __device__ __forceinline__ void Apply(int column, float (&values)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float probability = inverse * ShiftedExponential(values[i], max);
      const float gradient = scale * (probability - (column + i == target ? 1.0F : 0.0F));
      values[i] = column + i < count ? gradient : 0.0F;
    }
  }
};

// Goes from front to back, in steps of what all threads load at once. A bf16 row lies over the front half of the fp32 row: what
// a step writes lies over logits of this step and of earlier ones, which all threads have read when it begins to write.
template <typename T, int n>
__global__ void __launch_bounds__(kMaxThreads)
    GradientKernel(LogitRows logits, const int32_t* targets, const float* maxima,
                   const double* sums, T* dlogits, int64_t dlogits_stride, float scale) {
  const int64_t row = blockIdx.x;
  const float* from = logits.row(row);
  T* to = dlogits + row * dlogits_stride;
  const RowGradient gradient{.max = maxima[row],
                             .inverse = static_cast<float>(1.0 / sums[row]),
                             .scale = scale,
                             .count = logits.count,
                             .target = TargetColumn(logits, targets[row])};
  const int step = static_cast<int>(blockDim.x) * n;
  for (int first = 0; first < logits.width; first += step * kLoads) {
    const int begin = first + static_cast<int>(threadIdx.x) * n;
    float values[kLoads][n];
    LoadLogits(from, begin, step, logits.count, values);
    if constexpr (sizeof(T) < sizeof(float)) __syncthreads();
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      const int column = begin + k * step;
      if (column >= logits.width) continue;
      gradient.Apply(column, values[k]);
      StoreVector(to + column, values[k]);
    }
  }
}

template <typename T>
void WriteGradient(Context& context, const CrossEntropyArgs& args) {
  DispatchVector(FoursFit(args.logits), [&](auto n) {
    Launch(GradientKernel<T, n()>, dim3(static_cast<unsigned>(args.logits.rows())),
           dim3(ThreadsFor(args.logits)), 0, context.cuda().stream, RowsOf(args.logits, args.vocab),
           args.targets.data<int32_t>(), args.max.data<float>(), args.sum.data<double>(),
           args.dlogits.data<T>(), args.dlogits.row_stride(), args.scale);
  });
}

}  // namespace

void SoftmaxStatistics(Context& context, const SoftmaxStatisticsArgs& args) {
  if (args.logits.rows() == 0) return;
  DispatchVector(FoursFit(args.logits), [&](auto n) {
    Launch(SoftmaxStatisticsKernel<n()>, dim3(static_cast<unsigned>(args.logits.rows())),
           dim3(ThreadsFor(args.logits)), 0, context.cuda().stream, RowsOf(args.logits, args.vocab),
           args.targets.data<int32_t>(), args.max.data<float>(), args.sum.data<double>(),
           args.target.data<double>());
  });
}

void SoftmaxRescale(Context& context, const SoftmaxRescaleArgs& args) {
  const int64_t rows = args.sum.size();
  if (rows == 0) return;
  Launch(SoftmaxRescaleKernel, dim3(BlocksFor(rows, kFlatThreads)), dim3(kFlatThreads), 0,
         context.cuda().stream, rows, args.from.data<float>(), args.to.data<float>(),
         args.sum.data<double>());
}

void CrossEntropy(Context& context, const CrossEntropyArgs& args) {
  const int64_t rows = args.logits.rows();
  if (rows == 0) return;
  Launch(LossKernel, dim3(BlocksFor(rows, kFlatThreads)), dim3(kFlatThreads), 0,
         context.cuda().stream, rows, args.max.data<float>(), args.sum.data<double>(),
         args.target.data<double>(), args.loss.data<float>());
  if (!args.dlogits) return;
  DispatchFloat(args.dlogits.dtype(), [&]<typename T>(T) { WriteGradient<T>(context, args); });
}

}  // namespace entrain::cuda
