#include "model/linear.h"

#include "runtime/kernels/matmul.h"
#include "runtime/kernels/reduce.h"

namespace entrain {

Linear::Linear(ParamSet& params, const std::string& name, int64_t in, int64_t out, float std,
               BiasColumns bias, WeightNorm norm, NormAxis axis)
    : weight_(params, name + ".weight", in, out, std, norm, axis), columns_(bias) {
  if (bias.begin < bias.end) bias_ = params.Add({.name = name + ".bias", .shape = {out}});
}

void Linear::Forward(Context& context, const ParamSet& params, const TensorView& x,
                     const TensorView& y, bool accumulate) const {
  Matmul(context, {.a = x,
                   .b = weight_.matrix(params),
                   .out = y,
                   .bias = bias_.valid() ? params.value(bias_) : TensorView(),
                   .accumulate = accumulate});
}

void Linear::Backward(Context& context, const ParamSet& params, const Gradients& g) const {
  Matmul(context, {.a = g.x,
                   .b = g.dy,
                   .out = weight_.gradient(params),
                   .transpose_a = true,
                   .accumulate = g.accumulate});
  if (bias_.valid()) {
    ColumnSum(context, {.x = g.dy,
                        .out = params.gradient(bias_),
                        .begin = columns_.begin,
                        .end = columns_.end,
                        .accumulate = g.accumulate});
  }
  Matmul(context, {.a = g.dy,
                   .b = weight_.matrix(params),
                   .out = g.dx,
                   .transpose_b = true,
                   .accumulate = g.add_to_dx});
}

}  // namespace entrain
