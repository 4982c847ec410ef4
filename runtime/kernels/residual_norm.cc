#include "runtime/kernels/residual_norm.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void ResidualNormForward(Context& context, const ResidualNormForwardArgs& args))

void ResidualNormForward(Context& context, const ResidualNormForwardArgs& args) {
  const ResidualForwardArgs& sum = args.sum;
  const int64_t rows = sum.y.rows(), width = sum.y.dim(-1);
  CheckF32("residual norm y", sum.y, {rows, width});
  CheckF32("residual norm f", sum.f, {rows, width});
  CheckF32("residual norm out", sum.out, {rows, width});
  CheckFloat("residual norm normed", args.normed, {rows, width});
  CHECK(args.normed.raw() != sum.out.raw() || rows == 0)
      << "residual norm normed may not alias out";
  CHECK(static_cast<bool>(sum.alpha) == static_cast<bool>(sum.beta))
      << "residual norm takes both alpha and beta, or neither";
  if (sum.alpha) {
    CheckF32("residual norm alpha", sum.alpha, {1});
    CheckF32("residual norm beta", sum.beta, {1});
  }
  if (args.gain) {
    CheckF32("residual norm gain", args.gain, {width});
    CheckF32("residual norm bias", args.bias, {width});
    CheckF32("residual norm mean", args.mean, {rows});
    CheckF32("residual norm rstd", args.rstd, {rows});
  }
  ENTRAIN_DISPATCH(ResidualNormForward, context, args);
}

}  // namespace entrain
