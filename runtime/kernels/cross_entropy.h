// Cross-entropy fused with its gradient: the logits become their own gradient, in place.
#ifndef ENTRAIN_RUNTIME_KERNELS_CROSS_ENTROPY_H_
#define ENTRAIN_RUNTIME_KERNELS_CROSS_ENTROPY_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// logits f32 [R, Vp], of which columns [0, vocab) count; targets i32 [R] in [0, vocab).
// loss f32 [R]: log Σ exp(logit) − logit[target], in nats.
// dlogits: empty (loss only), or [R, Vp] over the same memory as logits: f32 with the same row stride, or bf16 with twice
// the row stride in elements. Written as scale · (softmax − onehot); padding columns become 0.
struct CrossEntropyArgs {
  TensorView logits;
  TensorView targets;
  TensorView loss;
  TensorView dlogits;
  int64_t vocab = 0;
  float scale = 1.0F;
};
void CrossEntropy(Context& context, const CrossEntropyArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_CROSS_ENTROPY_H_
