#include "runtime/kernels/layernorm.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void LayerNormForward(Context& context, const LayerNormForwardArgs& args))
ENTRAIN_BACKENDS(void LayerNormBackward(Context& context, const LayerNormBackwardArgs& args))

void LayerNormForward(Context& context, const LayerNormForwardArgs& args) {
  const int64_t rows = args.x.rows(), width = args.x.dim(-1);
  CheckF32("layernorm x", args.x, {rows, width});
  CheckF32("layernorm gain", args.gain, {width});
  CheckF32("layernorm bias", args.bias, {width});
  CheckFloat("layernorm out", args.out, {rows, width});
  CheckF32("layernorm mean", args.mean, {rows});
  CheckF32("layernorm rstd", args.rstd, {rows});
  CHECK(args.out.raw() != args.x.raw()) << "layernorm out may not alias x";
  ENTRAIN_DISPATCH(LayerNormForward, context, args);
}

void LayerNormBackward(Context& context, const LayerNormBackwardArgs& args) {
  const int64_t rows = args.x.rows(), width = args.x.dim(-1);
  CheckFloat("layernorm dout", args.dout, {rows, width});
  CheckF32("layernorm x", args.x, {rows, width});
  CheckF32("layernorm gain", args.gain, {width});
  CheckF32("layernorm mean", args.mean, {rows});
  CheckF32("layernorm rstd", args.rstd, {rows});
  CheckF32("layernorm dx", args.dx, {rows, width});
  if (args.dx_copy) {
    CheckFloat("layernorm dx_copy", args.dx_copy, {rows, width});
    CHECK(args.dx_copy.raw() != args.dx.raw()) << "layernorm dx_copy may not alias dx";
  }
  CheckF32("layernorm dgain", args.dgain, {width});
  CheckF32("layernorm dbias", args.dbias, {width});
  ENTRAIN_DISPATCH(LayerNormBackward, context, args);
}

}  // namespace entrain
