// Sums of squares of fp32 vectors, in fp64 over chunks of a fixed size.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_SQUARES_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_SQUARES_CUH_

#include <cstdint>

#include "runtime/kernels/cuda_elements.cuh"

namespace entrain::cuda {

inline constexpr int64_t kSquareChunk = 16384;
inline constexpr int kSquareThreads = 256;

__device__ __forceinline__ void AddSquare(float x, double& sum) {
  const auto value = static_cast<double>(x);
  sum += value * value;
}

// This thread's share of the chunk that begins at x, with `rest` elements to the vector's end. fours: x may be read so.
__device__ __forceinline__ double SquaresOfChunk(const float* x, int64_t rest, bool fours) {
  const auto thread = static_cast<int>(threadIdx.x);
  double sum = 0.0;
  if (fours && rest >= kSquareChunk) {
#pragma unroll 4
    for (int i = 4 * thread; i < kSquareChunk; i += 4 * kSquareThreads) {
      float values[4];
      Load4(x + i, values);
#pragma unroll
      for (const float value : values) AddSquare(value, sum);
    }
  } else {
    const auto count = static_cast<int>(rest < kSquareChunk ? rest : kSquareChunk);
    for (int i = thread; i < count; i += kSquareThreads) AddSquare(x[i], sum);
  }
  return sum;
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_SQUARES_CUH_
