// The FFN's non-linearity. `identity` has no kernel: callers alias.
#ifndef ENTRAIN_RUNTIME_KERNELS_ACTIVATION_H_
#define ENTRAIN_RUNTIME_KERNELS_ACTIVATION_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

enum class Activation { kGelu, kRelu };

// gelu(x) = x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), GPT-2's form; relu(x) = max(x, 0).
// x, out: f32 or bf16, same dtype and size, dense; out may alias x. Arithmetic in fp32.
struct ActivationForwardArgs {
  Activation kind;
  TensorView x;
  TensorView out;
};
void ActivationForward(Context& context, const ActivationForwardArgs& args);

// dx = dout · act'(x); relu'(0) = 0. dx may alias dout.
struct ActivationBackwardArgs {
  Activation kind;
  TensorView x;
  TensorView dout;
  TensorView dx;
};
void ActivationBackward(Context& context, const ActivationBackwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ACTIVATION_H_
