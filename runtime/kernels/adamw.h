// AdamW, decoupled decay (Loshchilov and Hutter, arXiv 1711.05101), over one contiguous range of parameters.
#ifndef ENTRAIN_RUNTIME_KERNELS_ADAMW_H_
#define ENTRAIN_RUNTIME_KERNELS_ADAMW_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// All f32 [n], dense: value, first and second moment are updated in place, gradient is read.
//   g = gradient · gradient_scale;  m = β₁m + (1−β₁)g;  v = β₂v + (1−β₂)g²;
//   value −= lr · ( m̂/(√v̂ + eps) + weight_decay·value ),  m̂ = m/(1−β₁^step), v̂ = v/(1−β₂^step)
// compute: bf16 [n] copy of the new value, or empty. Element-wise: no order of summation.
struct AdamWArgs {
  TensorView value;
  TensorView gradient;
  TensorView first_moment;
  TensorView second_moment;
  TensorView compute;
  double lr = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;
  double gradient_scale = 1.0;
  int64_t step = 1;  // 1 for the first update
};
void AdamW(Context& context, const AdamWArgs& args);

// value = max(value, minimum); f32, dense.
void ClampMin(Context& context, const TensorView& value, float minimum);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ADAMW_H_
