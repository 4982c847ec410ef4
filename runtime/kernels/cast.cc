#include "runtime/kernels/cast.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void Cast(Context& context, const TensorView& in, const TensorView& out))
ENTRAIN_BACKENDS(void Add(Context& context, const TensorView& in, const TensorView& out))

void Cast(Context& context, const TensorView& in, const TensorView& out) {
  CheckFloat("cast in", in);
  CheckFloat("cast out", out);
  CHECK(in.rows() == out.rows() && in.dim(-1) == out.dim(-1))
      << "cast from " << Describe(in) << " to " << Describe(out);
  ENTRAIN_DISPATCH(Cast, context, in, out);
}

void Add(Context& context, const TensorView& in, const TensorView& out) {
  CheckFloat("add in", in);
  CheckDType("add out", out, DType::kF32);
  CheckDense("add in", in);
  CheckDense("add out", out);
  CHECK_EQ(in.size(), out.size()) << "add " << Describe(in) << " to " << Describe(out);
  ENTRAIN_DISPATCH(Add, context, in, out);
}

}  // namespace entrain
