#include "runtime/kernels/residual.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void ResidualForward(Context& context, const ResidualForwardArgs& args))
ENTRAIN_BACKENDS(void ResidualBackward(Context& context, const ResidualBackwardArgs& args))
namespace {

void CheckScalars(const TensorView& alpha, const TensorView& beta) {
  CHECK(static_cast<bool>(alpha) == static_cast<bool>(beta))
      << "residual takes both alpha and beta, or neither";
  if (!alpha) return;
  CheckF32("residual alpha", alpha, {1});
  CheckF32("residual beta", beta, {1});
}

}  // namespace

void ResidualForward(Context& context, const ResidualForwardArgs& args) {
  const int64_t rows = args.y.rows(), width = args.y.dim(-1);
  CheckF32("residual y", args.y, {rows, width});
  CheckFloat("residual f", args.f, {rows, width});
  CheckF32("residual out", args.out, {rows, width});
  CheckScalars(args.alpha, args.beta);
  ENTRAIN_DISPATCH(ResidualForward, context, args);
}

void ResidualBackward(Context& context, const ResidualBackwardArgs& args) {
  const int64_t rows = args.dout.rows(), width = args.dout.dim(-1);
  CheckF32("residual dout", args.dout, {rows, width});
  CheckF32("residual dy", args.dy, {rows, width});
  CheckFloat("residual df", args.df, {rows, width});
  CheckScalars(args.alpha, args.beta);
  if (args.alpha) {
    CheckF32("residual y", args.y, {rows, width});
    CheckFloat("residual f", args.f, {rows, width});
    CheckF32("residual dalpha", args.dalpha, {1});
    CheckF32("residual dbeta", args.dbeta, {1});
  }
  ENTRAIN_DISPATCH(ResidualBackward, context, args);
}

}  // namespace entrain
