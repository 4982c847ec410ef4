#include "runtime/kernels/matmul.h"

#include "runtime/kernels/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
namespace cpu {
void Matmul(Context& context, const MatmulArgs& args);
}  // namespace cpu

void Matmul(Context& context, const MatmulArgs& args) {
  const TensorView &a = args.a, &b = args.b, &out = args.out;
  CheckFloat("matmul a", a);
  CheckDType("matmul b", b, a.dtype());
  CHECK(a.num_dims() == 2 && b.num_dims() == 2)
      << "matmul takes matrices: a " << Describe(a) << ", b " << Describe(b);
  const int64_t m = a.dim(args.transpose_a ? 1 : 0);
  const int64_t k = a.dim(args.transpose_a ? 0 : 1);
  const int64_t n = b.dim(args.transpose_b ? 0 : 1);
  CheckDims("matmul a", a, {a.dim(0), a.dim(1)});
  CheckDims("matmul b", b, {args.transpose_b ? n : k, args.transpose_b ? k : n});
  CheckFloat("matmul out", out);
  CheckDims("matmul out", out, {m, n});
  CHECK(out.dtype() == DType::kF32 || a.dtype() == DType::kBf16)
      << "matmul: a bf16 out takes bf16 operands";
  CHECK(!args.accumulate || out.dtype() == DType::kF32) << "matmul accumulates in f32 only";
  if (args.bias) CheckF32("matmul bias", args.bias, {n});
  ENTRAIN_DISPATCH(Matmul, context, args);
}

}  // namespace entrain
