#include "model/norm.h"

#include "runtime/kernels/cast.h"
#include "runtime/kernels/layernorm.h"
#include "runtime/kernels/residual_norm.h"

namespace entrain {

NormLayer::NormLayer(ParamSet& params, const std::string& name, Norm kind, int64_t width,
                     const TensorParallel& tp)
    : tp_(tp), kind_(kind), width_(width) {
  if (is_none()) return;
  const bool partial = tp.sequence_parallel();
  gain_ = params.Add(
      {.name = name + ".weight", .shape = {width}, .scale = 1.0F, .partial_over_tp = partial});
  bias_ = params.Add({.name = name + ".bias", .shape = {width}, .partial_over_tp = partial});
}

NormLayer::Saved NormLayer::AllocateSaved(Arena& arena, int64_t rows, DType compute) const {
  Saved saved;
  if (is_none() && compute == DType::kF32 && !tp_.sequence_parallel()) return saved;
  saved.out = arena.Allocate("norm output", compute, {rows, width_});
  if (is_none()) return saved;
  saved.mean = arena.Allocate("norm mean", DType::kF32, {tp_.StreamRows(rows)});
  saved.rstd = arena.Allocate("norm rstd", DType::kF32, {tp_.StreamRows(rows)});
  return saved;
}

void NormLayer::Forward(Context& context, const ParamSet& params, const ResidualStream& stream,
                        Saved& saved) const {
  const bool copies = tp_.sequence_parallel() || (saved.out && saved.out.dtype() == DType::kBf16);
  if (is_none() && !copies) {
    stream.Complete(context);
    saved.out = stream.x;
    return;
  }
  const TensorView out = tp_.StreamPart(saved.out);
  const TensorView gain = is_none() ? TensorView() : params.value(gain_);
  const TensorView bias = is_none() ? TensorView() : params.value(bias_);
  if (stream.pending()) {
    ResidualNormForward(context, {.sum = stream.sum,
                                  .gain = gain,
                                  .bias = bias,
                                  .normed = out,
                                  .mean = saved.mean,
                                  .rstd = saved.rstd});
  } else if (is_none()) {
    Cast(context, stream.x, out);
  } else {
    LayerNormForward(context, {.x = stream.x,
                               .gain = gain,
                               .bias = bias,
                               .out = out,
                               .mean = saved.mean,
                               .rstd = saved.rstd});
  }
}

void NormLayer::Backward(Context& context, const ParamSet& params, const TensorView& x,
                         const Saved& saved, const Gradients& g) const {
  if (is_none()) {
    if (g.dx_copy) Cast(context, g.dx, g.dx_copy);
    return;
  }
  LayerNormBackward(context, {.dout = g.scratch,
                              .x = x,
                              .gain = params.value(gain_),
                              .mean = saved.mean,
                              .rstd = saved.rstd,
                              .dx = g.dx,
                              .dx_copy = g.dx_copy,
                              .dgain = params.gradient(gain_),
                              .dbias = params.gradient(bias_),
                              .add_to_dx = g.add_to_dx,
                              .accumulate = g.accumulate});
}

}  // namespace entrain
