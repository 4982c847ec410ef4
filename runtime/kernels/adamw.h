// AdamW, decoupled decay (Loshchilov and Hutter, arXiv 1711.05101), over all parameters of a model at once.
#ifndef ENTRAIN_RUNTIME_KERNELS_ADAMW_H_
#define ENTRAIN_RUNTIME_KERNELS_ADAMW_H_

#include <array>
#include <limits>
#include <vector>

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// All f32 [n], dense: value, first and second moment are updated in place, gradient is read.
//   g = gradient · gradient_scale;  m = β₁m + (1−β₁)g;  v = β₂v + (1−β₂)g²;
//   value −= lr · ( m̂/(√v̂ + eps) + weight_decay·value ),  m̂ = m/(1−β₁^step), v̂ = v/(1−β₂^step);  value = max(value, minimum)
// compute: bf16 [n] copy of the new value, or empty. Element-wise: no order of summation.
struct AdamWParameter {
  TensorView value;
  TensorView gradient;
  TensorView first_moment;
  TensorView second_moment;
  TensorView compute;
  bool decayed = false;
  float minimum = -std::numeric_limits<float>::infinity();
};

// What changes from step to step, in the order of AdamWArgs::rate: lr/(1−β₁^step), 1/(1−β₂^step), 1 − lr·weight_decay. Each
// is computed in fp64 and rounded once. step: 1 for the first update.
std::array<float, 3> AdamWRate(double lr, double weight_decay, double beta1, double beta2,
                               int64_t step);

struct AdamWArgs {
  std::vector<AdamWParameter> parameters;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  TensorView rate;            // f32 [3]
  TensorView gradient_scale;  // f32 [1]; NaN: everything stays as it is
};
void AdamW(Context& context, const AdamWArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ADAMW_H_
