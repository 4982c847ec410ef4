#include "runtime/kernels/activation.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void ActivationForward(Context& context, const ActivationForwardArgs& args))
ENTRAIN_BACKENDS(void ActivationBackward(Context& context, const ActivationBackwardArgs& args))
namespace {

// `view` has the dtype and the size of x, and is dense as x is.
void CheckLikeX(const char* name, const TensorView& view, const TensorView& x) {
  CheckFloat("activation x", x);
  CheckDense("activation x", x);
  CheckDType(name, view, x.dtype());
  CheckDense(name, view);
  CHECK_EQ(view.size(), x.size()) << name << ": " << Describe(view);
}

}  // namespace

void ActivationForward(Context& context, const ActivationForwardArgs& args) {
  CheckLikeX("activation out", args.out, args.x);
  ENTRAIN_DISPATCH(ActivationForward, context, args);
}

void ActivationBackward(Context& context, const ActivationBackwardArgs& args) {
  CheckLikeX("activation dout", args.dout, args.x);
  CheckLikeX("activation dx", args.dx, args.x);
  ENTRAIN_DISPATCH(ActivationBackward, context, args);
}

}  // namespace entrain
