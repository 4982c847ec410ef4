// What the kernels of cross-entropy are made of. A block takes a row; threads read columns in fixed strides, so that the number of
// columns alone determines the order of a sum.
#ifndef ENTRAIN_RUNTIME_KERNELS_CROSS_ENTROPY_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CROSS_ENTROPY_CUDA_CUH_

#include <limits>
#include <numbers>

#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cross_entropy.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"

namespace entrain::cuda {

// Loads of a thread that are under way at a time.
inline constexpr int kLoads = 4;
inline constexpr float kLog2E = std::numbers::log2e_v<float>;
inline constexpr float kLeast = std::numeric_limits<float>::lowest();
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Logits and their padding: columns [0, count) are tokens, [count, width) are not.
template <typename L>
struct LogitRows {
  L* data;
  int64_t stride;
  int64_t first_token;
  int count;
  int width;

  __device__ L* row(int64_t i) const { return data + i * stride; }
};

template <typename L>
LogitRows<L> RowsOf(const TensorView& logits, const VocabRange& vocab) {
  return {.data = logits.data<L>(),
          .stride = logits.row_stride(),
          .first_token = vocab.first_token,
          .count = static_cast<int>(vocab.count),
          .width = static_cast<int>(logits.dim(-1))};
}

// Column of a row's target, −1 when it is not among these.
template <typename L>
__device__ __forceinline__ int TargetColumn(const LogitRows<L>& logits, int32_t target) {
  const int64_t column = target - logits.first_token;
  return 0 <= column && column < logits.count ? static_cast<int>(column) : -1;
}

// exp(logit − max). The difference comes first: logits far from 0 lose nothing.
__device__ __forceinline__ float ShiftedExponential(float logit, float max) {
  return Exp2((logit - max) * kLog2E);
}

// Logits of a vector's columns, −∞ in place of those behind the last: no larger than any, and with an exponential of 0.
template <int n, typename L>
__device__ __forceinline__ void LoadLast(const L* logits, int column, int count,
                                         float (&values)[n]) {
  if (column + n <= count) {
    LoadVector(logits + column, values);
    return;
  }
#pragma unroll
  for (int i = 0; i < n; ++i) {
    values[i] = column + i < count ? ToFloat(logits[column + i]) : kMinusInfinity;
  }
}

// The same for vectors at `column` and every `step` behind it; mostly one branch for all, so that the loads go out together.
template <int loads, int n, typename L>
__device__ __forceinline__ void LoadLogits(const L* logits, int column, int step, int count,
                                           float (&values)[loads][n]) {
  if (column + (loads - 1) * step + n <= count) {
#pragma unroll
    for (int k = 0; k < loads; ++k) LoadVector(logits + column + k * step, values[k]);
  } else {
#pragma unroll
    for (int k = 0; k < loads; ++k) LoadLast(logits, column + k * step, count, values[k]);
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

// A row's maximum and its sum of exponentials relative to that, of its threads' shares, which meet in fp64; all threads get them. maxima,
// sums: shared, kMaxWarps elements each, free before and after.
struct RowSum {
  float max;
  double sum;
};
__device__ __forceinline__ RowSum SumOfRow(const Normalizer& mine, float* maxima, double* sums) {
  const float max = BlockReduce(mine.max, maxima, MaxOf());
  return {max, BlockReduce(double{mine.sum * ShiftedExponential(mine.max, max)}, sums, SumOf())};
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
    for (float& value : values) value = ShiftedExponential(value, max);
    ApplyToExponentials(column, values);
  }
  // Overwrites their shifted exponentials.
  template <int n>
  __device__ __forceinline__ void ApplyToExponentials(int column, float (&values)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float probability = inverse * values[i];
      const float gradient = scale * (probability - (column + i == target ? 1.0F : 0.0F));
      values[i] = column + i < count ? gradient : 0.0F;
    }
  }
};

// Overwrites a row's logits from column `first` on, a multiple of n. Goes from front to back, in steps of what all threads load
// at once. A bf16 row may lie over the front half of an fp32 row: what a step writes lies over logits of this step and of earlier
// ones, which all threads have read when it begins to write.
template <int n, typename L, typename T>
__device__ __forceinline__ void WriteGradientFrom(int first, const LogitRows<L>& logits,
                                                  const L* from, T* to,
                                                  const RowGradient& gradient) {
  const int step = static_cast<int>(blockDim.x) * n;
  for (; first < logits.width; first += step * kLoads) {
    const int begin = first + static_cast<int>(threadIdx.x) * n;
    float values[kLoads][n];
    LoadLogits(from, begin, step, logits.count, values);
    if constexpr (sizeof(T) < sizeof(L)) __syncthreads();
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      const int column = begin + k * step;
      if (column >= logits.width) continue;
      gradient.Apply(column, values[k]);
      StoreVector(to + column, values[k]);
    }
  }
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CROSS_ENTROPY_CUDA_CUH_
