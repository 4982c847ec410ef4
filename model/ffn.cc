#include "model/ffn.h"

#include <cmath>

#include "model/init.h"
#include "runtime/kernels/activation.h"
#include "runtime/kernels/residual.h"

namespace entrain {

FfnLayer::FfnLayer(ParamSet& params, const std::string& name, const ModelConfig& config,
                   const TensorParallel& tp)
    : tp_(tp), kind_(config.ffn), width_(config.width), ffn_width_(tp.Share(config.ffn_width())) {
  auto spec = [&](int64_t in, int64_t out, float std) {
    return LinearSpec{.weight = {.in = in,
                                 .out = out,
                                 .std = std,
                                 .norm = config.ffn_weight_norm,
                                 .axis = config.weight_norm_axis,
                                 .partial_gradient = fused()},
                      .bias = {0, config.ffn_bias ? out : 0}};
  };
  if (fused()) {
    fused_ = Linear(params, name + ".c_fused", spec(width_, width_, ResidualStd(config)), tp);
  } else {
    in_ = ColumnLinear(params, name + ".c_fc", spec(width_, config.ffn_width(), kInitStd), tp);
    out_ = RowLinear(params, name + ".c_proj",
                     spec(config.ffn_width(), width_, ResidualStd(config)), tp);
  }
  if (!config.ffn_scaling) return;
  for (ParamId* scale : {&alpha_, &beta_}) {
    *scale = params.Add({.name = name + (scale == &alpha_ ? ".alpha" : ".beta"),
                         .shape = {1},
                         .scale = 1.0F,
                         .partial_over_tp = tp.sequence_parallel()});
  }
}

FfnLayer::Saved FfnLayer::AllocateSaved(Arena& arena, int64_t rows, DType compute) const {
  Saved saved;
  if (!fused()) {
    saved.hidden = arena.Allocate("ffn hidden", compute, {rows, ffn_width_});
    saved.activated = has_activation()
                          ? arena.Allocate("ffn activated", compute, {rows, ffn_width_})
                          : saved.hidden;
  }
  // Joins the residual stream and gives α its gradient: both are spared a rounding.
  if (scaled()) {
    saved.out = arena.Allocate("ffn output", DType::kF32, {tp_.StreamRows(rows), width_});
  }
  return saved;
}

ResidualStream FfnLayer::Forward(Context& context, const ParamSet& params, const TensorView& z,
                                 const TensorView& y, const TensorView& out, const TensorView& sums,
                                 const Saved& saved) const {
  // With scales f is kept and combined; without, the last product adds it to the residual stream in fp32.
  if (!scaled()) {
    ForwardBranch(context, params, z, y, out, sums, saved);
    return {.x = out};
  }
  ForwardBranch(context, params, z, /*addend=*/{}, saved.out, sums, saved);
  return {.x = out,
          .sum = {.y = y,
                  .f = saved.out,
                  .alpha = params.value(alpha_),
                  .beta = params.value(beta_),
                  .out = out}};
}

void FfnLayer::ForwardBranch(Context& context, const ParamSet& params, const TensorView& z,
                             const TensorView& addend, const TensorView& f, const TensorView& sums,
                             const Saved& saved) const {
  if (fused()) {
    fused_.Forward(context, params,
                   {.x = tp_.ShareOfRows(z),
                    .y = tp_.ShareOfStream(f),
                    .addend = addend ? tp_.ShareOfStream(addend) : TensorView()});
    return tp_.CompleteStream(f, "output of a fused FFN");
  }
  if (kind_ == Ffn::kGelu) {
    in_.Forward(context, params, z, saved.activated, {MatmulEpilogue::kGelu, saved.hidden});
  } else {
    in_.Forward(context, params, z, saved.hidden);
  }
  if (kind_ == Ffn::kRelu) {
    ActivationForward(context,
                      {.kind = Activation::kRelu, .x = saved.hidden, .out = saved.activated});
  }
  out_.Forward(context, params, {.x = saved.activated, .y = f, .addend = addend, .scratch = sums});
}

void FfnLayer::BackwardScales(Context& context, const ParamSet& params, const Saved& saved,
                              const TensorView& y, const TensorView& dx, const Scratch& scratch,
                              bool accumulate) const {
  if (!scaled()) return;
  ResidualBackward(context, {.dout = dx,
                             .y = y,
                             .f = saved.out,
                             .alpha = params.value(alpha_),
                             .beta = params.value(beta_),
                             .dy = dx,
                             .df = tp_.StreamPart(scratch.branch),
                             .dalpha = params.gradient(alpha_),
                             .dbeta = params.gradient(beta_),
                             .accumulate = accumulate});
}

void FfnLayer::BackwardBranch(Context& context, const ParamSet& params, const Saved& saved,
                              const TensorView& z, const TensorView& dz, bool add_to_dz,
                              const Scratch& scratch, bool accumulate) const {
  if (fused()) {
    return BackwardFused(context, params, z, scratch.branch, dz, add_to_dz, accumulate);
  }
  FusedActivation gradient;
  if (kind_ == Ffn::kGelu) gradient = {MatmulEpilogue::kGeluGradient, saved.hidden};
  out_.Backward(context, params,
                {.x = saved.activated,
                 .dy = scratch.branch,
                 .dx = scratch.hidden,
                 .accumulate = accumulate,
                 .activation = gradient});
  if (kind_ == Ffn::kRelu) {
    ActivationBackward(context, {.kind = Activation::kRelu,
                                 .x = saved.hidden,
                                 .dout = scratch.hidden,
                                 .dx = scratch.hidden});
  }
  in_.Backward(context, params,
               {.x = z,
                .dy = scratch.hidden,
                .dx = dz,
                .scratch = scratch.sums,
                .add_to_dx = add_to_dz,
                .accumulate = accumulate});
}

void FfnLayer::BackwardFused(Context& context, const ParamSet& params, const TensorView& z,
                             const TensorView& df, const TensorView& dz, bool add_to_dz,
                             bool accumulate) const {
  fused_.Backward(context, params,
                  {.x = tp_.ShareOfRows(z),
                   .dy = tp_.ShareOfRows(df),
                   .dx = tp_.ShareOfStream(dz),
                   .add_to_dx = add_to_dz,
                   .accumulate = accumulate});
  tp_.CompleteStream(dz, "input gradient of a fused FFN");
}

std::vector<Weight*> FfnLayer::weights() {
  if (fused()) return {&fused_.weight()};
  return {&in_.linear().weight(), &out_.linear().weight()};
}

std::vector<const Weight*> FfnLayer::weights() const {
  if (fused()) return {&fused_.weight()};
  return {&in_.linear().weight(), &out_.linear().weight()};
}

}  // namespace entrain
