#include "runtime/kernels/cast.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void Cast(Context& context, const TensorView& in, const TensorView& out))

void Cast(Context& context, const TensorView& in, const TensorView& out) {
  CheckFloat("cast in", in);
  CheckFloat("cast out", out);
  CHECK(in.rows() == out.rows() && in.dim(-1) == out.dim(-1))
      << "cast from " << Describe(in) << " to " << Describe(out);
  ENTRAIN_DISPATCH(Cast, context, in, out);
}

}  // namespace entrain
