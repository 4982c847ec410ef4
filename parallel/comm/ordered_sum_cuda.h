// Sums over ranks on the GPU, in rank order: what ordered_reduce does on the host.
#ifndef ENTRAIN_PARALLEL_COMM_ORDERED_SUM_CUDA_H_
#define ENTRAIN_PARALLEL_COMM_ORDERED_SUM_CUDA_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "runtime/tensor/dtype.h"

namespace entrain::cuda {

// The vectors of `ranks` ranks: this one's, and those of the others in their order, the next one every `stride` elements.
struct RankVectors {
  Bf16* mine = nullptr;
  const Bf16* others = nullptr;
  int64_t stride = 0;
  int rank = 0;
  int ranks = 1;
};

// The first `count` elements of `mine` become ((x₀ + x₁) + x₂) + …, made in fp32 and rounded once.
void SumInRankOrder(const RankVectors& vectors, int64_t count, cudaStream_t stream);

}  // namespace entrain::cuda

#endif  // ENTRAIN_PARALLEL_COMM_ORDERED_SUM_CUDA_H_
