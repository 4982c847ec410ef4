// The emulated cuBLASLt's algorithms: which products each can make, and how it may be configured.
//
// They differ in their last bits, as real ones do, so that a test can tell which one ran; one of them, which only a permissive
// caller is offered, gives other bits at each call.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EMULATED_ALGORITHMS_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EMULATED_ALGORITHMS_H_

#include <cublasLt.h>

#include <cstdint>
#include <span>

#include "tests/support/emulated_gpu/emulated_matmul.h"

namespace entrain::emulated {

inline constexpr uint32_t kVector = 16;

struct Shapes {
  const MatmulDescriptor& product;
  const MatrixLayout &a, &b, &c, &d;

  int64_t m() const { return d.rows; }
  int64_t n() const { return d.columns; }
  int64_t k() const { return product.transpose_a == CUBLAS_OP_N ? a.columns : a.rows; }
};

// In the order in which they are offered for many terms and few sums; those that split them are offered last for others.
std::span<const MatmulSplit> Algorithms();

MatmulSplit SplitOf(const cublasLtMatmulAlgo_t* algo);
// Whether a blob is one of the algorithms, as it is or set otherwise.
bool Known(const MatmulSplit& algorithm);
// Whether the number of parts, and how they meet, may be set.
bool CanBeCut(const MatmulSplit& algorithm);
// Whether what is set goes together: as the documentation has it, one part goes with no scheme.
bool WellConfigured(const MatmulSplit& algorithm, int64_t terms);
uint64_t WorkspaceOf(const MatmulSplit& algorithm, const Shapes& shapes);
// Blocks of 128 × 128 sums, one on a multiprocessor.
float WavesOf(const MatmulSplit& algorithm, const Shapes& shapes);
bool StridesFit(const MatmulSplit& algorithm, const Shapes& shapes);
// Of the product, whatever the algorithm.
cublasStatus_t Examine(const Shapes& shapes);

inline bool Aligned(const void* address, uint64_t bytes) {
  return reinterpret_cast<uintptr_t>(address) % bytes == 0;
}

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EMULATED_ALGORITHMS_H_
