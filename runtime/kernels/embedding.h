// Token and position embedding: out[b·T + i] = wte[token] (+ wpe[i]).
#ifndef ENTRAIN_RUNTIME_KERNELS_EMBEDDING_H_
#define ENTRAIN_RUNTIME_KERNELS_EMBEDDING_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// tokens i32 [B, T]; wte f32 or bf16 [V, C], the rows of tokens [first_token, first_token + V): any other token's row is
// another rank's, and 0 here; wpe same dtype [≥ first_position + T, C] or empty; out f32 [B·T, C].
// Position of tokens[b, i] is first_position + i.
struct EmbeddingForwardArgs {
  TensorView tokens;
  TensorView wte;
  TensorView wpe;
  TensorView out;
  int64_t first_position = 0;
  int64_t first_token = 0;
};
void EmbeddingForward(Context& context, const EmbeddingForwardArgs& args);

// dout f32 [B·T, C]. dwte f32 [V, C] is ADDED to, rows in the order of the batch, those of other ranks' tokens left out. dwpe f32 [≥ T, C] or empty: its first T
// rows are overwritten, or added to when `accumulate`, summed over b in order.
struct EmbeddingBackwardArgs {
  TensorView tokens;
  TensorView dout;
  TensorView dwte;
  TensorView dwpe;
  bool accumulate = false;
  int64_t first_token = 0;
};
void EmbeddingBackward(Context& context, const EmbeddingBackwardArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_EMBEDDING_H_
