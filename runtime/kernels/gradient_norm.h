// The norm of all gradients, and what it makes of an update: clipped, or left out. Host code need not know either.
#ifndef ENTRAIN_RUNTIME_KERNELS_GRADIENT_NORM_H_
#define ENTRAIN_RUNTIME_KERNELS_GRADIENT_NORM_H_

#include <vector>

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// sums[g] = Σ over the vectors of group g of Σ x², each f32, dense, of any size; sums f64 [groups]. fp64 within chunks of fixed
// size, chunks in order. Not finite exactly when some x is not finite (or the sum leaves fp64).
void SumsOfSquares(Context& context, const std::vector<std::vector<TensorView>>& groups,
                   const TensorView& sums);

// norm f64 [1] = √Σ squares (f64 [n]). scale f32 [1], what AdamW multiplies gradients by: min(1, clip/(norm + 1e-6)), or 1
// where clip is 0; NaN, which leaves the update out, where norm or some of must_be_finite (f64, dense) is not finite.
struct GradientScaleArgs {
  TensorView squares;
  TensorView must_be_finite;
  double clip = 0.0;
  TensorView norm;
  TensorView scale;
};
void GradientScale(Context& context, const GradientScaleArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_GRADIENT_NORM_H_
