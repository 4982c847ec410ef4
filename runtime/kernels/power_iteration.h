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

// square f64 [1] = Σ x², x f64 [n].
void SquaredNorm(Context& context, const TensorView& x, const TensorView& square);
// The unit vector of x f64 [n], and its length: norm f64 [1] = max(√square, kMinSigma), out f32 [n] = x/√square or, where that
// is zero, if_zero f32 [n], which may alias out; empty: zeros.
struct NormalizeArgs {
  TensorView x;
  TensorView square;
  TensorView if_zero;
  TensorView out;
  TensorView norm;
};
void Normalize(Context& context, const NormalizeArgs& args);
// A zero matrix has σ = 0; its gradient is then meaningless, but finite.
inline constexpr double kMinSigma = 1e-12;

// product f64 [1] = Σ a∘b; a, b f32, dense.
void InnerProduct(Context& context, const TensorView& a, const TensorView& b,
                  const TensorView& product);

// weight f32 or bf16 = raw/sigma, sigma f64 [1].
void SpectralScale(Context& context, const TensorView& raw, const TensorView& sigma,
                   const TensorView& weight);

// draw = dW/σ − product/σ² · v uᵀ, product = Σ dW∘W̄ over the whole matrix (u, v held constant); matrices f32 [in, out], u f32
// [out], v f32 [in], sigma and product f64 [1]; draw may alias dweight.
struct SpectralBackwardArgs {
  TensorView dweight;
  TensorView u;
  TensorView v;
  TensorView sigma;
  TensorView product;
  TensorView draw;
};
void SpectralBackward(Context& context, const SpectralBackwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_POWER_ITERATION_H_
