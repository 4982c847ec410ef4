#include "runtime/kernels/cast.h"
#include "runtime/kernels/layernorm.h"
#include "runtime/kernels/residual_norm.h"

namespace entrain::cpu {

void ResidualNormForward(Context& context, const ResidualNormForwardArgs& args) {
  entrain::ResidualForward(context, args.sum);
  if (!args.gain) return entrain::Cast(context, args.sum.out, args.normed);
  entrain::LayerNormForward(context, {.x = args.sum.out,
                                      .gain = args.gain,
                                      .bias = args.bias,
                                      .out = args.normed,
                                      .mean = args.mean,
                                      .rstd = args.rstd});
}

}  // namespace entrain::cpu
