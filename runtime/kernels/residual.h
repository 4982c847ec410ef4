// The scaled residual connection after the FFN: out = β·y + (1/α)·f.
#ifndef ENTRAIN_RUNTIME_KERNELS_RESIDUAL_H_
#define ENTRAIN_RUNTIME_KERNELS_RESIDUAL_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// y f32 [R, C]; f f32 or bf16 [R, C]; alpha, beta f32 [1], or both empty for 1; out f32 [R, C], may alias y.
struct ResidualForwardArgs {
  TensorView y;
  TensorView f;
  TensorView alpha;
  TensorView beta;
  TensorView out;
};
void ResidualForward(Context& context, const ResidualForwardArgs& args);

// dout f32 [R, C] → df (f32 or bf16) = dout/α; dy f32 = β·dout (may alias dout; with α, β empty and dy = dout nothing is
// copied); dalpha = −Σ dout·f/α², dbeta = Σ dout·y: overwritten, or added to when `accumulate`; sums in fp64 over chunks
// of fixed size.
struct ResidualBackwardArgs {
  TensorView dout;
  TensorView y;
  TensorView f;
  TensorView alpha;
  TensorView beta;
  TensorView dy;
  TensorView df;
  TensorView dalpha;
  TensorView dbeta;
  bool accumulate = false;
};
void ResidualBackward(Context& context, const ResidualBackwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_RESIDUAL_H_
