// One kernel for all ops that compute each element of dense operands by itself.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_ELEMENTWISE_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_ELEMENTWISE_CUH_

#include <cstdint>

#include "runtime/device/context.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_elements.cuh"

namespace entrain::cuda {

// Whether each view's memory begins where four of its elements may be taken at once; an empty view does.
template <typename... Views>
bool BeginAtFours(const Views&... views) {
  return ((reinterpret_cast<uintptr_t>(views.raw()) %
               static_cast<uintptr_t>(4 * SizeOf(views.dtype())) ==
           0) &&
          ...);
}

inline constexpr int kElementThreads = 256;
// Fours of a thread: all are read before one is written, so that enough reads are under way.
inline constexpr int kElementFours = 2;
inline constexpr int64_t kElementTile = kElementThreads * kElementFours * 4;

// An Op holds pointers and numbers, and has, for n = 4 and n = 1,
//   static constexpr int kInputs;
//   template <int n> __device__ void Load(int64_t i, float (&in)[kInputs][n]) const;    // elements i .. i + n − 1
//   template <int n> __device__ void Store(int64_t i, const float (&in)[kInputs][n]) const;
// and may have Prepare(), called first in each thread, for what all elements need.
// An output may lie over an input: no other thread reads it.
template <typename Op>
__global__ void __launch_bounds__(kElementThreads)
    ForEachElementKernel(Op op, int64_t size, bool fours) {
  if constexpr (requires { op.Prepare(); }) op.Prepare();
  const int64_t begin = blockIdx.x * kElementTile;
  const int64_t rest = size - begin;
  const auto thread = static_cast<int>(threadIdx.x);
  if (fours && rest >= kElementTile) {
    float in[kElementFours][Op::kInputs][4];
#pragma unroll
    for (int k = 0; k < kElementFours; ++k) {
      op.Load(begin + 4 * (k * kElementThreads + thread), in[k]);
    }
#pragma unroll
    for (int k = 0; k < kElementFours; ++k) {
      op.Store(begin + 4 * (k * kElementThreads + thread), in[k]);
    }
    return;
  }
  const auto count = static_cast<int>(rest < kElementTile ? rest : kElementTile);
  for (int i = thread; i < count; i += kElementThreads) {
    float in[Op::kInputs][1];
    op.Load(begin + i, in);
    op.Store(begin + i, in);
  }
}

// `fours`: all operands begin at fours.
template <typename Op>
void ForEachElement(Context& context, int64_t size, bool fours, const Op& op) {
  if (size == 0) return;
  const auto blocks = static_cast<unsigned>((size + kElementTile - 1) / kElementTile);
  Launch(ForEachElementKernel<Op>, blocks, kElementThreads, 0, context.cuda().stream, op, size,
         fours);
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_ELEMENTWISE_CUH_
