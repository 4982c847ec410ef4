#include "model/weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/base/philox.h"
#include "runtime/kernels/cast.h"
#include "runtime/kernels/power_iteration.h"
#include "runtime/kernels/row_norms.h"

namespace entrain {
namespace {

// A zero matrix has σ = 0; its gradient is then meaningless, but finite.
constexpr double kMinSigma = 1e-12;

void CopyVector(const TensorView& from, const TensorView& to) {
  std::memcpy(to.raw(), from.raw(), static_cast<size_t>(from.bytes()));
}

}  // namespace

Weight::Weight(ParamSet& params, const std::string& name, int64_t in, int64_t out, float std,
               WeightNorm norm, NormAxis axis)
    : name_(name), in_(in), out_(out), norm_(norm), axis_(axis) {
  const bool factored = norm == WeightNorm::kWeight;
  raw_ = params.Add({.name = factored ? name + "_v" : name,
                     .shape = {in, out},
                     .init = InitKind::kNormal,
                     .scale = std,
                     .matrix = true});
  if (factored) {
    gain_ = params.Add({.name = name + "_g", .shape = {axis == NormAxis::kOutput ? out : in}});
  }
}

void Weight::Allocate(Arena& arena, DType compute) {
  if (norm_ == WeightNorm::kNone) return;
  effective_ = arena.Allocate(name_ + " effective", compute, {in_, out_});
  if (norm_ == WeightNorm::kWeight) {
    norms_ =
        arena.Allocate(name_ + " norms", DType::kF32, {axis_ == NormAxis::kOutput ? out_ : in_});
    return;
  }
  u_ = arena.Allocate(name_ + " u", DType::kF32, {out_});
  step_u_ = arena.Allocate(name_ + " step u", DType::kF32, {out_});
  step_v_ = arena.Allocate(name_ + " step v", DType::kF32, {in_});
}

void Weight::InitializeFactors(Context& context, const ParamSet& params, uint64_t seed) {
  if (norm_ == WeightNorm::kWeight) {
    UnitNorms(context, params.value(raw_), axis_, params.value(gain_));
  }
  if (norm_ != WeightNorm::kSpectral) return;
  const uint64_t stream = StreamOf(name_ + ".u");
  auto* u = u_.data<float>();
  double square = 0.0;
  for (int64_t i = 0; i < out_; ++i) {
    u[i] = NormalAt(seed, stream, static_cast<uint64_t>(i));
    square += static_cast<double>(u[i]) * u[i];
  }
  const auto scale = static_cast<float>(1.0 / std::sqrt(square));
  for (int64_t i = 0; i < out_; ++i) u[i] *= scale;
}

void Weight::BeginStep(Context& context, const ParamSet& params, bool keep_power_iteration) {
  if (norm_ == WeightNorm::kWeight) {
    WeightNormForward(context, {.v = params.value(raw_),
                                .g = params.value(gain_),
                                .axis = axis_,
                                .weight = effective_,
                                .norms = norms_});
  } else if (norm_ == WeightNorm::kSpectral) {
    sigma_ = std::max(
        kMinSigma,
        PowerIteration(context,
                       {.raw = params.value(raw_), .u = u_, .v = step_v_, .next_u = step_u_}));
    SpectralScale(context, params.value(raw_), sigma_, effective_);
    if (keep_power_iteration) CopyVector(step_u_, u_);
  }
}

void Weight::EndStep(Context& context, const ParamSet& params) {
  const TensorView gradient = params.gradient(raw_);
  if (norm_ == WeightNorm::kWeight) {
    WeightNormBackward(context, {.dweight = gradient,
                                 .v = params.value(raw_),
                                 .g = params.value(gain_),
                                 .norms = norms_,
                                 .axis = axis_,
                                 .dv = gradient,
                                 .dg = params.gradient(gain_)});
  } else if (norm_ == WeightNorm::kSpectral) {
    SpectralBackward(context, {.dweight = gradient,
                               .raw = params.value(raw_),
                               .u = step_u_,
                               .v = step_v_,
                               .sigma = sigma_,
                               .draw = gradient});
  }
}

TensorView Weight::matrix(const ParamSet& params) const {
  return norm_ == WeightNorm::kNone ? params.compute(raw_) : effective_;
}

void Weight::CopyEffective(Context& context, const ParamSet& params, const TensorView& out) const {
  switch (norm_) {
    case WeightNorm::kNone:
      return Cast(context, params.value(raw_), out);
    case WeightNorm::kWeight:
      return WeightNormForward(context, {.v = params.value(raw_),
                                         .g = params.value(gain_),
                                         .axis = axis_,
                                         .weight = out,
                                         .norms = norms_});
    case WeightNorm::kSpectral:
      return SpectralScale(context, params.value(raw_), sigma_, out);
  }
}

void Weight::SetEffective(Context& context, const ParamSet& params, const float* matrix) {
  std::memcpy(params.value(raw_).raw(), matrix, static_cast<size_t>(in_ * out_) * sizeof(float));
  if (norm_ == WeightNorm::kWeight) {
    UnitNorms(context, params.value(raw_), axis_, params.value(gain_));
  }
}

}  // namespace entrain
