// Token and position embedding: out[b·T + i] = wte[token] (+ wpe[i]).
#ifndef ENTRAIN_RUNTIME_KERNELS_EMBEDDING_H_
#define ENTRAIN_RUNTIME_KERNELS_EMBEDDING_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// tokens i32 [B, T]; wte f32 or bf16 [V, C]; wpe same dtype [≥ first_position + T, C] or empty; out f32 [B·T, C].
// Position of tokens[b, i] is first_position + i. Every token must lie in [0, V): checked where batches are made.
struct EmbeddingForwardArgs {
  TensorView tokens;
  TensorView wte;
  TensorView wpe;
  TensorView out;
  int64_t first_position = 0;
};
void EmbeddingForward(Context& context, const EmbeddingForwardArgs& args);

// dout f32 [B·T, C]. dwte f32 [V, C] is ADDED to, rows in the order of the batch. dwpe f32 [≥ T, C] or empty: its first T
// rows are overwritten, or added to when `accumulate`, summed over b in order.
struct EmbeddingBackwardArgs {
  TensorView tokens;
  TensorView dout;
  TensorView dwte;
  TensorView dwpe;
  bool accumulate = false;
};
void EmbeddingBackward(Context& context, const EmbeddingBackwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_EMBEDDING_H_
