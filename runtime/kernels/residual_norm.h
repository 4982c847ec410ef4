// The scaled residual connection and the norm behind it, in one pass over memory where the backend has one.
#ifndef ENTRAIN_RUNTIME_KERNELS_RESIDUAL_NORM_H_
#define ENTRAIN_RUNTIME_KERNELS_RESIDUAL_NORM_H_

#include "runtime/kernels/residual.h"

namespace entrain {

// What ResidualForward makes of `sum`, whose f is f32 here; then, with gain and bias, what LayerNormForward makes of sum.out, or else
// normed = sum.out in normed's dtype (mean and rstd are empty). The same bits as those ops'. y, f, out f32 [R, C], out may alias y;
// gain, bias f32 [C]; normed f32 or bf16 [R, C], apart from out; mean, rstd f32 [R].
struct ResidualNormForwardArgs {
  ResidualForwardArgs sum;
  TensorView gain;
  TensorView bias;
  TensorView normed;
  TensorView mean;
  TensorView rstd;
};
void ResidualNormForward(Context& context, const ResidualNormForwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_RESIDUAL_NORM_H_
