// Reductions over a warp and over a block, in an order that the number of threads alone determines.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_BLOCK_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_BLOCK_CUH_

#include <cstdint>

#include "runtime/kernels/cuda_intrinsics.cuh"

namespace entrain::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kMaxWarps = 32;  // of a block

// How many blocks of `of_block` (threads, rows, …) cover `count`. On the host.
inline unsigned BlocksFor(int64_t count, int64_t of_block) {
  return static_cast<unsigned>((count + of_block - 1) / of_block);
}

struct SumOf {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct MaxOf {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct MinOf {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

// Every lane gets the result, the same bits: each step adds the same two numbers on both sides.
template <typename T, typename Op>
__device__ __forceinline__ T WarpReduce(T value, Op op) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = op(value, ShuffleXor(value, mask));
  return value;
}

// Every thread of the block (whole warps, one-dimensional) gets the result. `scratch`: shared, kMaxWarps elements, free before
// and after; all threads must call.
template <typename T, typename Op>
__device__ __forceinline__ T BlockReduce(T value, T* scratch, Op op) {
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  value = WarpReduce(value, op);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  T result = scratch[0];
  for (int warp = 1; warp < warps; ++warp) result = op(result, scratch[warp]);
  return result;
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_BLOCK_CUH_
