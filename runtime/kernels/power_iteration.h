// Spectral normalisation: W = W̄/σ(W̄), σ from one power iteration. Miyato et al., arXiv 1802.05957.
#ifndef ENTRAIN_RUNTIME_KERNELS_POWER_ITERATION_H_
#define ENTRAIN_RUNTIME_KERNELS_POWER_ITERATION_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// raw W̄ f32 [in, out]; u f32 [out], of unit length, is read. Writes v [in] = W̄u/‖W̄u‖, next_u [out] = W̄ᵀv/‖W̄ᵀv‖ and
// returns σ = vᵀ W̄ next_u = ‖W̄ᵀv‖. next_u may alias u. Sums in fp64 over chunks of fixed size. A zero W̄ gives σ = 0 and
// leaves v and next_u at zero and u: callers divide by max(σ, 1e-12).
struct PowerIterationArgs {
  TensorView raw;
  TensorView u;
  TensorView v;
  TensorView next_u;
};
double PowerIteration(Context& context, const PowerIterationArgs& args);

// weight f32 or bf16 = raw/sigma.
void SpectralScale(Context& context, const TensorView& raw, double sigma, const TensorView& weight);

// draw = dW/σ − (Σ dW∘W̄)/σ² · v uᵀ (u, v held constant), all f32 [in, out]; draw may alias dweight.
struct SpectralBackwardArgs {
  TensorView dweight;
  TensorView raw;
  TensorView u;
  TensorView v;
  double sigma = 0.0;
  TensorView draw;
};
void SpectralBackward(Context& context, const SpectralBackwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_POWER_ITERATION_H_
