#include "model/ffn.h"

#include <cmath>

#include "model/init.h"
#include "runtime/kernels/activation.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/residual.h"

namespace entrain {
namespace {

Activation ActivationOf(Ffn kind) {
  return kind == Ffn::kRelu ? Activation::kRelu : Activation::kGelu;
}

}  // namespace

FfnLayer::FfnLayer(ParamSet& params, const std::string& name, const ModelConfig& config)
    : kind_(config.ffn), width_(config.width), ffn_width_(config.ffn_width()) {
  auto linear = [&](const char* part, int64_t in, int64_t out, float std) {
    return Linear(params, name + part, in, out, std, {0, config.ffn_bias ? out : 0},
                  config.ffn_weight_norm, config.weight_norm_axis);
  };
  if (fused()) {
    in_ = linear(".c_fused", width_, width_, ResidualStd(config));
  } else {
    in_ = linear(".c_fc", width_, ffn_width_, kInitStd);
    out_ = linear(".c_proj", ffn_width_, width_, ResidualStd(config));
  }
  if (config.ffn_scaling) {
    alpha_ = params.Add({.name = name + ".alpha", .shape = {1}, .scale = 1.0F});
    beta_ = params.Add({.name = name + ".beta", .shape = {1}, .scale = 1.0F});
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
  if (scaled()) saved.out = arena.Allocate("ffn output", DType::kF32, {rows, width_});
  return saved;
}

void FfnLayer::Forward(Context& context, const ParamSet& params, const TensorView& z,
                       const TensorView& y, const TensorView& out, const Saved& saved) const {
  // With scales f is kept and combined; without, the last product adds to the residual stream in fp32.
  const TensorView& f = scaled() ? saved.out : out;
  if (!scaled()) Cast(context, y, out);
  if (fused()) {
    in_.Forward(context, params, z, f, !scaled());
  } else {
    in_.Forward(context, params, z, saved.hidden);
    if (has_activation()) {
      ActivationForward(context,
                        {.kind = ActivationOf(kind_), .x = saved.hidden, .out = saved.activated});
    }
    out_.Forward(context, params, saved.activated, f, !scaled());
  }
  if (scaled()) {
    ResidualForward(
        context,
        {.y = y, .f = f, .alpha = params.value(alpha_), .beta = params.value(beta_), .out = out});
  }
}

void FfnLayer::BackwardScales(Context& context, const ParamSet& params, const Saved& saved,
                              const TensorView& y, const TensorView& dx, const Scratch& scratch,
                              bool accumulate) const {
  if (!scaled()) return Cast(context, dx, scratch.branch);
  ResidualBackward(context, {.dout = dx,
                             .y = y,
                             .f = saved.out,
                             .alpha = params.value(alpha_),
                             .beta = params.value(beta_),
                             .dy = dx,
                             .df = scratch.branch,
                             .dalpha = params.gradient(alpha_),
                             .dbeta = params.gradient(beta_),
                             .accumulate = accumulate});
}

void FfnLayer::BackwardBranch(Context& context, const ParamSet& params, const Saved& saved,
                              const TensorView& z, const TensorView& dz, bool add_to_dz,
                              const Scratch& scratch, bool accumulate) const {
  const TensorView& df = scratch.branch;
  if (fused()) {
    return in_.Backward(context, params, {z, df, dz, add_to_dz, accumulate});
  }
  out_.Backward(context, params, {saved.activated, df, scratch.hidden, false, accumulate});
  if (has_activation()) {
    ActivationBackward(context, {.kind = ActivationOf(kind_),
                                 .x = saved.hidden,
                                 .dout = scratch.hidden,
                                 .dx = scratch.hidden});
  }
  in_.Backward(context, params, {z, scratch.hidden, dz, add_to_dz, accumulate});
}

std::vector<Linear*> FfnLayer::linears() {
  return fused() ? std::vector<Linear*>{&in_} : std::vector<Linear*>{&in_, &out_};
}

std::vector<const Linear*> FfnLayer::linears() const {
  return fused() ? std::vector<const Linear*>{&in_} : std::vector<const Linear*>{&in_, &out_};
}

}  // namespace entrain
