// Products whose sums are cut into parts, which different multiprocessors add up at the same time: for few, long sums, as
// weight gradients are. GPT-2 124M's have 18 to 72 tiles of 128 × 256 for 132 multiprocessors, and 65,536 terms.
//
// cuBLASLt cuts sums where its heuristics say so. Here other numbers of parts are tried on the kernels that it names, and the
// first named is cut as this rule says. Its blocks occupy a share w of the device ("waves"). In clocks,
//   uncut      ceil(w)/w · F             F = 2·M·N·K / (flops a clock of all multiprocessors)
//   s parts    ceil(s·w)/(s·w) · F + (2·s + 1)·4·M·N / (bytes a clock) + 5000
// where parts are written and read in fp32, and added in order by a second kernel. The best s is taken if it gains a tenth; what
// measurement says comes before it (matmul_tuning.h). The rule has not been held against hardware.
#ifndef ENTRAIN_RUNTIME_KERNELS_MATMUL_SPLITS_CUDA_H_
#define ENTRAIN_RUNTIME_KERNELS_MATMUL_SPLITS_CUDA_H_

#include <cublasLt.h>

#include <cstdint>
#include <vector>

#include "runtime/kernels/matmul_plans_cuda.h"

namespace entrain::cuda {

struct SplitRule {
  int multiprocessors = 0;
  int capability = 0;

  double Clocks(const MatmulProblem& problem, double waves, int parts) const;
  // Numbers of parts, 2 and more, from the best on, that gain a tenth over `now` parts. waves: of the uncut product.
  std::vector<int> BetterThan(int now, const MatmulProblem& problem, double waves) const;
};

// Adds cut forms of a plan's first algorithms: in front that of the first one, if it should gain, others behind.
void AddSplits(cublasLtHandle_t handle, const MatmulProblem& problem, const MatmulPlan& plan,
               const SplitRule& rule, int64_t most_workspace_bytes,
               std::vector<MatmulAlgorithm>& algorithms);

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_MATMUL_SPLITS_CUDA_H_
