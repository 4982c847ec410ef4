#include "runtime/kernels/matmul.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/activation.h"
#include "runtime/kernels/operand.h"

namespace entrain {
// accumulate has become an addend there.
ENTRAIN_BACKENDS(void Matmul(Context& context, const MatmulArgs& args))
// Whether cpu:: or cuda::Matmul does this epilogue too.
ENTRAIN_BACKENDS(bool FusesEpilogue(Context& context, const MatmulArgs& args))
ENTRAIN_BACKENDS(void AllowTf32(Context& context))
namespace {

bool Fuses(Context& context, const MatmulArgs& args) {
  ENTRAIN_DISPATCH(FusesEpilogue, context, args);
}

void CheckEpilogue(const MatmulArgs& args, int64_t m, int64_t n) {
  CheckDType("matmul aux", args.aux, args.out.dtype());
  CheckDims("matmul aux", args.aux, {m, n});
  CheckDense("matmul aux", args.aux);
  CheckDense("matmul out", args.out);
  CHECK(!args.accumulate && !args.addend) << "matmul with an epilogue does not accumulate";
  CHECK(args.epilogue != MatmulEpilogue::kGeluGradient || !args.bias)
      << "matmul: a gradient's epilogue takes no bias";
}

void CheckAddend(const MatmulArgs& args, int64_t m, int64_t n) {
  CheckDType("matmul addend", args.addend, DType::kF32);
  CheckDims("matmul addend", args.addend, {m, n});
  CHECK(args.addend.raw() != args.out.raw() || args.addend.row_stride() == args.out.row_stride())
      << "matmul addend over out, with another row stride: " << Describe(args.addend);
}

// The product, then the epilogue as an op of its own.
void RunApart(Context& context, const MatmulArgs& args) {
  const bool forward = args.epilogue == MatmulEpilogue::kGelu;
  MatmulArgs product = args;
  product.epilogue = MatmulEpilogue::kNone;
  if (forward) product.out = args.aux;
  Matmul(context, product);
  if (forward) {
    ActivationForward(context, {.kind = Activation::kGelu, .x = args.aux, .out = args.out});
  } else {
    ActivationBackward(
        context, {.kind = Activation::kGelu, .x = args.aux, .dout = args.out, .dx = args.out});
  }
}

}  // namespace

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
  CHECK(!args.accumulate || !args.addend) << "matmul takes accumulate or an addend, not both";
  CHECK((!args.accumulate && !args.addend) || out.dtype() == DType::kF32)
      << "matmul accumulates in f32 only";
  if (args.bias) CheckF32("matmul bias", args.bias, {n});
  if (args.epilogue != MatmulEpilogue::kNone) {
    CheckEpilogue(args, m, n);
    if (!Fuses(context, args)) return RunApart(context, args);
  }
  MatmulArgs product = args;
  if (args.accumulate) product.addend = out;
  if (product.addend) CheckAddend(product, m, n);
  ENTRAIN_DISPATCH(Matmul, context, product);
}

void AllowTf32(Context& cuda_context) {
  ENTRAIN_DISPATCH_ON(cuda_context.device(), AllowTf32, cuda_context);
}

}  // namespace entrain
