// Matrix product: out = op(a) · op(b) [+ bias] [+ out].
#ifndef ENTRAIN_RUNTIME_KERNELS_MATMUL_H_
#define ENTRAIN_RUNTIME_KERNELS_MATMUL_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// a: [M, K] ([K, M] when transpose_a), b: [K, N] ([N, K] when transpose_b), both f32 or both bf16, any row stride.
// out: [M, N], f32 or bf16 (bf16 only for bf16 operands), any row stride; must not overlap a or b.
// bias: f32 [N] or empty, added to every row. accumulate: adds to what `out` (f32) holds; else `out` is overwritten.
// Sums run in fp32 inside oneDNN. Their order is fixed for one number of threads.
struct MatmulArgs {
  TensorView a;
  TensorView b;
  TensorView out;
  TensorView bias;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
};

void Matmul(Context& context, const MatmulArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_MATMUL_H_
