// LayerNorm over the last dim: out = gain · (x − mean) · rstd + bias, rstd = 1/√(variance + 1e-5), biased variance.
#ifndef ENTRAIN_RUNTIME_KERNELS_LAYERNORM_H_
#define ENTRAIN_RUNTIME_KERNELS_LAYERNORM_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

inline constexpr float kLayerNormEpsilon = 1e-5F;

// x f32 [R, C]; gain, bias f32 [C]; out f32 or bf16 [R, C] (may not alias x); mean, rstd f32 [R] are written.
// The variance is taken from centred values, in a second pass over the row.
struct LayerNormForwardArgs {
  TensorView x;
  TensorView gain;
  TensorView bias;
  TensorView out;
  TensorView mean;
  TensorView rstd;
};
void LayerNormForward(Context& context, const LayerNormForwardArgs& args);

// dout f32 or bf16 [R, C]; dx f32 [R, C] is ADDED to (the residual stream's gradient), or overwritten when !add_to_dx.
// dx_copy f32 or bf16 [R, C], or empty: becomes dx as it then is; overlaps nothing.
// dgain, dbias f32 [C]: overwritten, or added to when `accumulate`. Their sums over rows run in chunks of a fixed number
// of rows, chunk after chunk, whatever the number of threads.
struct LayerNormBackwardArgs {
  TensorView dout;
  TensorView x;
  TensorView gain;
  TensorView mean;
  TensorView rstd;
  TensorView dx;
  TensorView dx_copy;
  TensorView dgain;
  TensorView dbias;
  bool add_to_dx = true;
  bool accumulate = false;
};
void LayerNormBackward(Context& context, const LayerNormBackwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_LAYERNORM_H_
