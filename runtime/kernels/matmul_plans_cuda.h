// MatmulPlans: what cuBLASLt needs to know of each kind of product, made at its first use and kept in the context.
//
// A row-major product out = a · b is asked for as the column-major outᵀ = bᵀ · aᵀ: cuBLASLt's A is b, its B is a, its M is N.
#ifndef ENTRAIN_RUNTIME_KERNELS_MATMUL_PLANS_CUDA_H_
#define ENTRAIN_RUNTIME_KERNELS_MATMUL_PLANS_CUDA_H_

#include <cublasLt.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/device/buffer.h"
#include "runtime/device/context.h"
#include "runtime/kernels/matmul.h"

namespace entrain::cuda {

// All that the choice of an algorithm depends on.
struct MatmulProblem {
  int64_t m, n, k;
  int64_t a_stride, b_stride, out_stride;
  int64_t addend_stride;  // of one that is not out itself; 0: there is none such
  DType dtype, out_dtype;
  bool transpose_a, transpose_b, bias, accumulate;
  MatmulEpilogue epilogue;
  // The largest power of two, up to 16, of which the addresses of a, b, out and an addend are multiples: more helps no kernel, and would
  // let the place of a tensor in memory choose an algorithm.
  int alignment;

  auto operator<=>(const MatmulProblem&) const = default;
};
MatmulProblem ProblemOf(const MatmulArgs& args);
// "65536x3072x768 bf16 -> bf16 NN bias gelu"
std::string Describe(const MatmulProblem& problem);

// Device addresses. bias, of out's dtype, and aux are at multiples of 16.
struct MatmulOperands {
  const void* a = nullptr;
  const void* b = nullptr;
  void* out = nullptr;
  const void* addend = nullptr;  // where the problem has a stride of one
  const void* bias = nullptr;
  void* aux = nullptr;
};

struct MatmulAlgorithm {
  cublasLtMatmulAlgo_t algo;
  int64_t workspace_bytes;
};

struct MatmulPlan {
  struct Free {
    void operator()(cublasLtMatmulDescOpaque_t* product) const {
      cublasLtMatmulDescDestroy(product);
    }
    void operator()(cublasLtMatrixLayoutOpaque_t* layout) const {
      cublasLtMatrixLayoutDestroy(layout);
    }
  };
  using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Free>;

  std::unique_ptr<cublasLtMatmulDescOpaque_t, Free> product;
  Layout a, b, out;
  Layout addend;  // none: out

  // cuBLASLt's C, which has a layout even where nothing is added.
  cublasLtMatrixLayoutOpaque_t* c() const { return addend ? addend.get() : out.get(); }

  // The one in use, then others that may be faster. None: cuBLASLt has no kernel for this, or it was found slower than the
  // product and its epilogue apart.
  std::vector<MatmulAlgorithm> algorithms;
  bool chosen = false;  // by Choose
  bool found = false;   // by Find: an op asked for it
};

class MatmulPlans {
 public:
  // Those of a context.
  static MatmulPlans& Of(Context& context);

  MatmulPlans();
  ~MatmulPlans();
  MatmulPlans(const MatmulPlans&) = delete;
  MatmulPlans& operator=(const MatmulPlans&) = delete;

  // Before the first plan.
  void AllowTf32();
  bool tf32() const { return tf32_; }

  MatmulPlan& Find(const MatmulProblem& problem);
  // With the algorithm in use, or the next where cuBLASLt refuses that after all. Fails by a CHECK when there is none.
  void Run(Context& context, const MatmulProblem& problem, const MatmulOperands& operands);
  // With an algorithm of that plan.
  cublasStatus_t Try(Context& context, const MatmulProblem& problem, const MatmulPlan& plan,
                     const MatmulAlgorithm& algorithm, const MatmulOperands& operands);
  // Puts an algorithm, or null for none, in the first place. False, and nothing changes, when cuBLASLt will not have it.
  bool Choose(const MatmulProblem& problem, const cublasLtMatmulAlgo_t* algo);

  const std::map<MatmulProblem, MatmulPlan>& plans() const { return plans_; }

 private:
  MatmulPlan& PlanOf(const MatmulProblem& problem);
  MatmulPlan Make(const MatmulProblem& problem) const;
  std::vector<MatmulAlgorithm> AskForAlgorithms(const MatmulProblem& problem,
                                                const MatmulPlan& plan) const;
  void* Workspace(int64_t bytes);

  cublasLtHandle_t handle_ = nullptr;
  int64_t most_workspace_bytes_ = 0;
  int multiprocessors_ = 0;
  int capability_ = 0;
  Buffer workspace_;  // all of it from the first need on: graphs of the stream keep its address
  bool tf32_ = false;
  std::map<MatmulProblem, MatmulPlan> plans_;
};

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_MATMUL_PLANS_CUDA_H_
