// Spectral normalisation of a matrix that is cut over tp: σ is the whole matrix's. Formulas:
// runtime/kernels/power_iteration.h.
#ifndef ENTRAIN_PARALLEL_SHARDED_POWER_ITERATION_H_
#define ENTRAIN_PARALLEL_SHARDED_POWER_ITERATION_H_

#include "parallel/sharded_row_norms.h"
#include "parallel/tensor_parallel.h"
#include "runtime/kernels/power_iteration.h"

namespace entrain {

class ShardedPowerIteration {
 public:
  ShardedPowerIteration() = default;
  ShardedPowerIteration(const TensorParallel& tp, MatrixCut cut) : tp_(tp), cut_(cut) {}

  // raw W̄ f32 [in, out], this rank's part; u f32 [out], of unit length over all ranks, is read. Vectors are cut as the matrix
  // is. Writes v [in] = W̄u/‖W̄u‖, next_u [out] = W̄ᵀv/‖W̄ᵀv‖ and sigma = vᵀ W̄ next_u = ‖W̄ᵀv‖, at least kMinSigma, the same on
  // every rank. next_u may alias u. A zero W̄ leaves v at zero and next_u at u.
  struct Vectors {
    TensorView u;
    TensorView v;
    TensorView next_u;
    TensorView sigma;  // f64 [1]
    TensorView sums;   // f64, one longer than the longer of u and v: scratch
  };
  void Step(Context& context, const TensorView& raw, const Vectors& vectors) const;

  // scratch f64 [1] or more; dweight f32 [in, out] becomes the gradient of W̄: dW/σ − (Σ dW∘W̄)/σ² · v uᵀ.
  void Backward(Context& context, const TensorView& raw, const TensorView& u, const TensorView& v,
                const TensorView& sigma, const TensorView& scratch,
                const TensorView& dweight) const;

 private:
  TensorParallel tp_;
  MatrixCut cut_ = MatrixCut::kNone;
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_SHARDED_POWER_ITERATION_H_
