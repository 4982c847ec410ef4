#include "runtime/kernels/power_iteration.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void MatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                                   const TensorView& out))
ENTRAIN_BACKENDS(void TransposedMatrixVector(Context& context, const TensorView& raw,
                                             const TensorView& x, const TensorView& out))
ENTRAIN_BACKENDS(double InnerProduct(Context& context, const TensorView& a, const TensorView& b))
ENTRAIN_BACKENDS(void SpectralScale(Context& context, const TensorView& raw, double sigma,
                                    const TensorView& weight))
ENTRAIN_BACKENDS(void SpectralBackward(Context& context, const SpectralBackwardArgs& args))
namespace {

void CheckRaw(const TensorView& raw) {
  CheckF32("spectral norm raw", raw, {raw.dim(0), raw.dim(1)});
}

void CheckF64(const TensorView& out, int64_t size) {
  CheckDType("matrix-vector out", out, DType::kF64);
  CheckDims("matrix-vector out", out, {size});
}

void CheckSigma(double sigma) { CHECK(!(sigma <= 0.0)) << "spectral norm: sigma " << sigma; }

}  // namespace

void MatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                  const TensorView& out) {
  CheckRaw(raw);
  CheckF32("matrix-vector x", x, {raw.dim(1)});
  CheckF64(out, raw.dim(0));
  ENTRAIN_DISPATCH(MatrixVector, context, raw, x, out);
}

void TransposedMatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                            const TensorView& out) {
  CheckRaw(raw);
  CheckF32("matrix-vector x", x, {raw.dim(0)});
  CheckF64(out, raw.dim(1));
  ENTRAIN_DISPATCH(TransposedMatrixVector, context, raw, x, out);
}

double InnerProduct(Context& context, const TensorView& a, const TensorView& b) {
  CheckF32("inner product a", a, {a.dim(0), a.dim(1)});
  CheckF32("inner product b", b, {a.dim(0), a.dim(1)});
  ENTRAIN_DISPATCH(InnerProduct, context, a, b);
}

void SpectralScale(Context& context, const TensorView& raw, double sigma,
                   const TensorView& weight) {
  CheckRaw(raw);
  CheckFloat("spectral norm weight", weight, {raw.dim(0), raw.dim(1)});
  CheckSigma(sigma);
  ENTRAIN_DISPATCH(SpectralScale, context, raw, sigma, weight);
}

void SpectralBackward(Context& context, const SpectralBackwardArgs& args) {
  const int64_t in = args.dweight.dim(0), out = args.dweight.dim(1);
  CheckF32("spectral norm dweight", args.dweight, {in, out});
  CheckF32("spectral norm u", args.u, {out});
  CheckF32("spectral norm v", args.v, {in});
  CheckF32("spectral norm draw", args.draw, {in, out});
  CheckSigma(args.sigma);
  ENTRAIN_DISPATCH(SpectralBackward, context, args);
}

}  // namespace entrain
