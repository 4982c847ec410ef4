#include "parallel/linear.h"

#include <utility>

#include "runtime/kernels/reduce.h"

namespace entrain {
namespace {

LinearSpec WithCut(LinearSpec spec, MatrixCut cut) {
  spec.weight.cut = cut;
  return spec;
}

}  // namespace

// ---- Linear ----

Linear::Linear(ParamSet& params, const std::string& name, const LinearSpec& spec,
               const TensorParallel& tp)
    : weight_(params, name + ".weight", spec.weight, tp), columns_(spec.bias) {
  if (spec.bias.begin >= spec.bias.end) return;
  ShardSpec shard = ShardSpec::Whole({spec.weight.out});
  if (spec.weight.cut == MatrixCut::kColumns) {
    shard = ShardSpec::Cut({spec.weight.out}, 0, tp.place(), spec.weight.groups);
    columns_ = {tp.Share(spec.bias.begin), tp.Share(spec.bias.end)};
  }
  bias_ = params.Add({.name = name + ".bias",
                      .shard = std::move(shard),
                      .partial_over_tp = spec.weight.partial_gradient});
}

void Linear::Forward(Context& context, const ParamSet& params, const ForwardArgs& args) const {
  Matmul(context, {.a = args.x,
                   .b = weight_.matrix(params),
                   .out = args.y,
                   .bias = bias_.valid() && args.with_bias ? params.value(bias_) : TensorView(),
                   .addend = args.addend,
                   .epilogue = args.activation.epilogue,
                   .aux = args.activation.aux});
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
                   .accumulate = g.add_to_dx,
                   .epilogue = g.activation.epilogue,
                   .aux = g.activation.aux});
}

// ---- ColumnLinear ----

ColumnLinear::ColumnLinear(ParamSet& params, const std::string& name, LinearSpec spec,
                           const TensorParallel& tp)
    : tp_(tp), linear_(params, name, WithCut(spec, MatrixCut::kColumns), tp) {}

void ColumnLinear::Forward(Context& context, const ParamSet& params, const TensorView& x,
                           const TensorView& y, const FusedActivation& activation) const {
  tp_.GatherStream(x, "input of a column-parallel matrix");
  linear_.Forward(context, params, {.x = x, .y = y, .activation = activation});
}

void ColumnLinear::Backward(Context& context, const ParamSet& params, const Gradients& g) const {
  const TensorView addend = g.add_to_dx ? g.dx : TensorView();
  const TensorParallel::Part part = tp_.BeginSum(g.dx, addend, g.scratch);
  linear_.Backward(context, params,
                   {.x = g.x,
                    .dy = g.dy,
                    .dx = part.out,
                    .add_to_dx = static_cast<bool>(part.addend),
                    .accumulate = g.accumulate});
  tp_.EndSum(context, g.dx, addend, part, "input gradient of a column-parallel matrix");
}

// ---- RowLinear ----

RowLinear::RowLinear(ParamSet& params, const std::string& name, LinearSpec spec,
                     const TensorParallel& tp)
    : tp_(tp), linear_(params, name, WithCut(spec, MatrixCut::kRows), tp) {}

void RowLinear::Forward(Context& context, const ParamSet& params, const ForwardArgs& args) const {
  const TensorParallel::Part part = tp_.BeginSum(args.y, args.addend, args.scratch);
  // The bias is in the sum once: in the first rank's part.
  linear_.Forward(
      context, params,
      {.x = args.x, .y = part.out, .addend = part.addend, .with_bias = tp_.rank() == 0});
  tp_.EndSum(context, args.y, args.addend, part, "output of a row-parallel matrix");
}

void RowLinear::Backward(Context& context, const ParamSet& params, const Gradients& g) const {
  tp_.GatherStream(g.dy, "output gradient of a row-parallel matrix");
  linear_.Backward(
      context, params,
      {.x = g.x, .dy = g.dy, .dx = g.dx, .accumulate = g.accumulate, .activation = g.activation});
}

}  // namespace entrain
