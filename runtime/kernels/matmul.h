// Matrix product: out = epilogue(op(a) · op(b) [+ bias] [+ addend]).
#ifndef ENTRAIN_RUNTIME_KERNELS_MATMUL_H_
#define ENTRAIN_RUNTIME_KERNELS_MATMUL_H_

#include "runtime/base/enum_table.h"
#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// What becomes of the product p = op(a) · op(b) [+ bias]:
//   kNone          out = p [+ addend]
//   kGelu          aux = p, out = gelu(p)
//   kGeluGradient  out = p ∘ gelu'(aux); takes no bias
// gelu is that of activation.h. Whether a bf16 p is rounded before gelu or gelu' sees it is up to the backend.
enum class MatmulEpilogue { kNone, kGelu, kGeluGradient };
inline constexpr EnumTable<MatmulEpilogue, 3> kMatmulEpilogueNames{
    {{{MatmulEpilogue::kNone, "none"},
      {MatmulEpilogue::kGelu, "gelu"},
      {MatmulEpilogue::kGeluGradient, "gelu_gradient"}}}};

// a: [M, K] ([K, M] when transpose_a), b: [K, N] ([N, K] when transpose_b), both f32 or both bf16, any row stride.
// out: [M, N], f32 or bf16 (bf16 only for bf16 operands), any row stride; must not overlap a or b.
// bias: f32 [N] or empty, added to every row. addend: f32 [M, N] or empty, any row stride, for an f32 out; it is `out` itself or
// does not overlap it. accumulate: short for addend = out. Without them `out` is overwritten.
// aux: with an epilogue, [M, N] of out's dtype; both are then dense and overlap nothing, and nothing is added.
// Sums run in fp32 inside oneDNN or cuBLASLt. Their order is fixed for one number of threads, or one kind of GPU and one
// choice of algorithms (matmul_tuning.h). On CUDA a bias meets a bf16 out rounded to bf16.
struct MatmulArgs {
  TensorView a;
  TensorView b;
  TensorView out;
  TensorView bias;
  TensorView addend;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
  MatmulEpilogue epilogue = MatmulEpilogue::kNone;
  TensorView aux;
};

void Matmul(Context& context, const MatmulArgs& args);

// The most that a CUDA context's products take as workspace: seven parts of 124M's largest weight gradient, 768 × 3072.
inline constexpr int64_t kMostMatmulWorkspace = int64_t{64} << 20;

// From now on, and before the first product, a CUDA context multiplies fp32 operands in TF32: rounded to 10 bits of fraction, summed
// in fp32. Only for a run that asked for it.
void AllowTf32(Context& cuda_context);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_MATMUL_H_
