#include "runtime/kernels/power_iteration.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void MatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                                   const TensorView& out))
ENTRAIN_BACKENDS(void TransposedMatrixVector(Context& context, const TensorView& raw,
                                             const TensorView& x, const TensorView& out))
ENTRAIN_BACKENDS(void SquaredNorm(Context& context, const TensorView& x, const TensorView& square))
ENTRAIN_BACKENDS(void Normalize(Context& context, const NormalizeArgs& args))
ENTRAIN_BACKENDS(void InnerProduct(Context& context, const TensorView& a, const TensorView& b,
                                   const TensorView& product))
ENTRAIN_BACKENDS(void SpectralScale(Context& context, const TensorView& raw,
                                    const TensorView& sigma, const TensorView& weight))
ENTRAIN_BACKENDS(void SpectralBackward(Context& context, const SpectralBackwardArgs& args))
namespace {

void CheckRaw(const TensorView& raw) {
  CheckF32("spectral norm raw", raw, {raw.dim(0), raw.dim(1)});
}

}  // namespace

void MatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                  const TensorView& out) {
  CheckRaw(raw);
  CheckF32("matrix-vector x", x, {raw.dim(1)});
  CheckF64("matrix-vector out", out, raw.dim(0));
  ENTRAIN_DISPATCH(MatrixVector, context, raw, x, out);
}

void TransposedMatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                            const TensorView& out) {
  CheckRaw(raw);
  CheckF32("matrix-vector x", x, {raw.dim(0)});
  CheckF64("matrix-vector out", out, raw.dim(1));
  ENTRAIN_DISPATCH(TransposedMatrixVector, context, raw, x, out);
}

void SquaredNorm(Context& context, const TensorView& x, const TensorView& square) {
  CheckF64("squared norm x", x, x.size());
  CheckF64("squared norm", square, 1);
  ENTRAIN_DISPATCH(SquaredNorm, context, x, square);
}

void Normalize(Context& context, const NormalizeArgs& args) {
  CheckF64("normalize x", args.x, args.x.size());
  CheckF64("normalize square", args.square, 1);
  CheckF64("normalize norm", args.norm, 1);
  CheckF32("normalize out", args.out, {args.x.size()});
  if (args.if_zero) CheckF32("normalize if_zero", args.if_zero, {args.x.size()});
  ENTRAIN_DISPATCH(Normalize, context, args);
}

void InnerProduct(Context& context, const TensorView& a, const TensorView& b,
                  const TensorView& product) {
  CheckF32("inner product a", a, {a.dim(0), a.dim(1)});
  CheckF32("inner product b", b, {a.dim(0), a.dim(1)});
  CheckF64("inner product", product, 1);
  ENTRAIN_DISPATCH(InnerProduct, context, a, b, product);
}

void SpectralScale(Context& context, const TensorView& raw, const TensorView& sigma,
                   const TensorView& weight) {
  CheckRaw(raw);
  CheckFloat("spectral norm weight", weight, {raw.dim(0), raw.dim(1)});
  CheckF64("spectral norm sigma", sigma, 1);
  ENTRAIN_DISPATCH(SpectralScale, context, raw, sigma, weight);
}

void SpectralBackward(Context& context, const SpectralBackwardArgs& args) {
  const int64_t in = args.dweight.dim(0), out = args.dweight.dim(1);
  CheckF32("spectral norm dweight", args.dweight, {in, out});
  CheckF32("spectral norm u", args.u, {out});
  CheckF32("spectral norm v", args.v, {in});
  CheckF32("spectral norm draw", args.draw, {in, out});
  CheckF64("spectral norm sigma", args.sigma, 1);
  CheckF64("spectral norm product", args.product, 1);
  ENTRAIN_DISPATCH(SpectralBackward, context, args);
}

}  // namespace entrain
