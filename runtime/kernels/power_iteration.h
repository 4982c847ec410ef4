// Spectral normalisation: W = W̄/σ(W̄), σ from one power iteration. Miyato et al., arXiv 1802.05957.
#ifndef ENTRAIN_RUNTIME_KERNELS_POWER_ITERATION_H_
#define ENTRAIN_RUNTIME_KERNELS_POWER_ITERATION_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// The two products of a power iteration, with raw W̄ f32 [in, out]; sums in fp64 over chunks of fixed size.
// out f64 [in] = W̄x, x f32 [out].
void MatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                  const TensorView& out);
// out f64 [out] = W̄ᵀx, x f32 [in].
void TransposedMatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                            const TensorView& out);

// Σ a∘b in fp64; a, b f32, dense.
double InnerProduct(Context& context, const TensorView& a, const TensorView& b);

// weight f32 or bf16 = raw/sigma.
void SpectralScale(Context& context, const TensorView& raw, double sigma, const TensorView& weight);

// draw = dW/σ − product/σ² · v uᵀ, product = Σ dW∘W̄ over the whole matrix (u, v held constant); matrices f32 [in, out], u f32
// [out], v f32 [in]; draw may alias dweight.
struct SpectralBackwardArgs {
  TensorView dweight;
  TensorView u;
  TensorView v;
  double sigma = 0.0;
  double product = 0.0;
  TensorView draw;
};
void SpectralBackward(Context& context, const SpectralBackwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_POWER_ITERATION_H_
