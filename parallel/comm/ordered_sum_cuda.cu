#include "parallel/comm/ordered_sum_cuda.h"
#include "runtime/kernels/cuda_elements.cuh"
#include "runtime/kernels/cuda_intrinsics.cuh"

namespace entrain::cuda {
namespace {

constexpr int kThreads = 256;

// Where rank r's elements are.
__device__ __forceinline__ const Bf16* Elements(const RankVectors& vectors, int r) {
  if (r == vectors.rank) return vectors.mine;
  return vectors.others + (r < vectors.rank ? r : r - 1) * vectors.stride;
}

// The n elements from i on.
template <int n>
__device__ __forceinline__ void SumElements(const RankVectors& vectors, int64_t i) {
  float sum[n];
  LoadVector<n>(Elements(vectors, 0) + i, sum);
  for (int r = 1; r < vectors.ranks; ++r) {
    float next[n];
    LoadVector<n>(Elements(vectors, r) + i, next);
    for (int k = 0; k < n; ++k) sum[k] += next[k];
  }
  StoreVector<n>(vectors.mine + i, sum);
}

// A thread sums n elements beside each other.
template <int n>
__global__ void __launch_bounds__(kThreads)
    SumInRankOrderKernel(RankVectors vectors, int64_t count) {
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * n;
  if (begin + n <= count) {
    SumElements<n>(vectors, begin);
  } else {
    for (int64_t i = begin; i < count; ++i) SumElements<1>(vectors, i);
  }
}

bool IsAligned(const RankVectors& vectors) {
  const auto addresses =
      reinterpret_cast<uintptr_t>(vectors.mine) | reinterpret_cast<uintptr_t>(vectors.others);
  return addresses % (4 * sizeof(Bf16)) == 0 && vectors.stride % 4 == 0;
}

}  // namespace

void SumInRankOrder(const RankVectors& vectors, int64_t count, cudaStream_t stream) {
  if (count == 0 || vectors.ranks == 1) return;
  DispatchVector(IsAligned(vectors), [&](auto n) {
    const int64_t block = kThreads * decltype(n)::value;
    const auto blocks = static_cast<unsigned int>((count + block - 1) / block);
    Launch(SumInRankOrderKernel<decltype(n)::value>, blocks, kThreads, 0, stream, vectors, count);
  });
}

}  // namespace entrain::cuda
