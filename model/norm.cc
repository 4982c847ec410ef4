#include "model/norm.h"

#include "runtime/kernels/cast.h"
#include "runtime/kernels/layernorm.h"

namespace entrain {

NormLayer::NormLayer(ParamSet& params, const std::string& name, Norm kind, int64_t width)
    : kind_(kind), width_(width) {
  if (is_none()) return;
  gain_ = params.Add({.name = name + ".weight", .shape = {width}, .scale = 1.0F});
  bias_ = params.Add({.name = name + ".bias", .shape = {width}});
}

NormLayer::Saved NormLayer::AllocateSaved(Arena& arena, int64_t rows, DType compute) const {
  Saved saved;
  if (is_none() && compute == DType::kF32) return saved;
  saved.out = arena.Allocate("norm output", compute, {rows, width_});
  if (is_none()) return saved;
  saved.mean = arena.Allocate("norm mean", DType::kF32, {rows});
  saved.rstd = arena.Allocate("norm rstd", DType::kF32, {rows});
  return saved;
}

void NormLayer::Forward(Context& context, const ParamSet& params, const TensorView& x,
                        Saved& saved) const {
  if (!is_none()) {
    LayerNormForward(context, {.x = x,
                               .gain = params.value(gain_),
                               .bias = params.value(bias_),
                               .out = saved.out,
                               .mean = saved.mean,
                               .rstd = saved.rstd});
  } else if (saved.out && saved.out.dtype() == DType::kBf16) {
    Cast(context, x, saved.out);
  } else {
    saved.out = x;
  }
}

void NormLayer::Backward(Context& context, const ParamSet& params, const TensorView& x,
                         const Saved& saved, const TensorView& scratch, const TensorView& dx,
                         bool accumulate) const {
  if (is_none()) return;
  LayerNormBackward(context, {.dout = scratch,
                              .x = x,
                              .gain = params.value(gain_),
                              .mean = saved.mean,
                              .rstd = saved.rstd,
                              .dx = dx,
                              .dgain = params.gradient(gain_),
                              .dbias = params.gradient(bias_),
                              .accumulate = accumulate});
}

}  // namespace entrain
