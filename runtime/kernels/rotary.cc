#include "runtime/kernels/rotary.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void Rotary(Context& context, const RotaryArgs& args))

void Rotary(Context& context, const RotaryArgs& args) {
  const TensorView& qkv = args.qkv;
  CHECK_EQ(qkv.num_dims(), 5) << "rotary qkv: " << Describe(qkv);
  CheckFloat("rotary qkv", qkv, {qkv.dim(0), qkv.dim(1), 3, qkv.dim(3), qkv.dim(4)});
  CHECK(args.rotary_dims >= 0 && args.rotary_dims % 2 == 0 && args.rotary_dims <= qkv.dim(4))
      << "rotary_dims " << args.rotary_dims << " of head width " << qkv.dim(4)
      << ": must be even and no more than it";
  CHECK_GE(args.first_position, 0);
  ENTRAIN_DISPATCH(Rotary, context, args);
}

}  // namespace entrain
