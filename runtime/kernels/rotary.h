// Rotary position embedding of q and k, GPT-NeoX's half split (arXiv 2104.09864; GPT-NeoX code).
#ifndef ENTRAIN_RUNTIME_KERNELS_ROTARY_H_
#define ENTRAIN_RUNTIME_KERNELS_ROTARY_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// qkv f32 or bf16 [B, T, 3, H, D], q and k rotated in place over their first r = rotary_dims dimensions (even, ≤ D):
// pair (m, m + r/2) turns by angle p · 10000^(−2m/r), p = first_position + i. `inverse` turns back: the backward pass.
// Angles are computed in fp64 and kept in the context's cache.
struct RotaryArgs {
  TensorView qkv;
  int64_t rotary_dims = 0;
  int64_t first_position = 0;
  bool inverse = false;
};
void Rotary(Context& context, const RotaryArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ROTARY_H_
