#include "parallel/weight.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "runtime/base/philox.h"
#include "runtime/kernels/cast.h"
#include "runtime/tensor/tensor_copy.h"

namespace entrain {
namespace {

// u is settled when an iteration raises σ, whose error is the square of u's, by no more than this share; two singular values
// that are nearly one never let it, and then either of their vectors serves.
constexpr double kSettledGrowth = 1e-12;
constexpr int kMaxIterations = 200;

ShardSpec MatrixShard(const WeightSpec& spec, const ShardPlace& place) {
  std::vector<int64_t> shape = {spec.in, spec.out};
  switch (spec.cut) {
    case MatrixCut::kNone:
      break;
    case MatrixCut::kRows:
      return ShardSpec::Cut(std::move(shape), 0, place);
    case MatrixCut::kColumns:
      return ShardSpec::Cut(std::move(shape), 1, place, spec.groups);
  }
  return ShardSpec::Whole(std::move(shape));
}

// Of a vector along dim 0 (in) or 1 (out) of the matrix.
ShardSpec VectorShard(const WeightSpec& spec, int dim, const ShardPlace& place) {
  const int64_t size = dim == 0 ? spec.in : spec.out;
  const bool cut = spec.cut == (dim == 0 ? MatrixCut::kRows : MatrixCut::kColumns);
  return cut ? ShardSpec::Cut({size}, 0, place, dim == 1 ? spec.groups : 1)
             : ShardSpec::Whole({size});
}

}  // namespace

Weight::Weight(ParamSet& params, const std::string& name, const WeightSpec& spec,
               const TensorParallel& tp)
    : name_(name),
      norm_(spec.norm),
      row_norms_(tp, spec.cut, spec.axis),
      power_iteration_(tp, spec.cut),
      u_shard_(VectorShard(spec, 1, tp.place())) {
  const bool factored = norm_ == WeightNorm::kWeight;
  raw_ = params.Add({.name = factored ? name + "_v" : name,
                     .init = InitKind::kNormal,
                     .scale = spec.std,
                     .matrix = true,
                     .factor = norm_ != WeightNorm::kNone,
                     .shard = MatrixShard(spec, tp.place()),
                     .partial_over_tp = spec.partial_gradient});
  in_ = params.spec(raw_).shape[0];
  out_ = params.spec(raw_).shape[1];
  if (!factored) return;
  // Its gradient follows from the matrix's, which is summed before: it is not partial.
  gain_ =
      params.Add({.name = name + "_g",
                  .shard = VectorShard(spec, spec.axis == NormAxis::kOutput ? 1 : 0, tp.place())});
  units_ = params.spec(gain_).shape[0];
}

void Weight::Allocate(Arena& arena, DType compute) {
  if (norm_ == WeightNorm::kNone) return;
  effective_ = arena.Allocate(name_ + " effective", compute, {in_, out_});
  if (norm_ == WeightNorm::kWeight) {
    norms_ = arena.Allocate(name_ + " norms", DType::kF32, {units_});
    sums_ = arena.Allocate(name_ + " sums", DType::kF64, {units_});
    return;
  }
  u_ = arena.Allocate(name_ + " u", DType::kF32, {out_});
  step_u_ = arena.Allocate(name_ + " step u", DType::kF32, {out_});
  step_v_ = arena.Allocate(name_ + " step v", DType::kF32, {in_});
  sums_ = arena.Allocate(name_ + " sums", DType::kF64, {1 + std::max(in_, out_)});
  sigma_ = arena.Allocate(name_ + " sigma", DType::kF64, {1});
}

void Weight::InitializeFactors(Context& context, const ParamSet& params, uint64_t seed) {
  if (norm_ == WeightNorm::kWeight) {
    row_norms_.Norms(context, params.value(raw_), sums_, params.value(gain_));
  }
  if (norm_ != WeightNorm::kSpectral) return;
  // The whole vector, whatever this rank holds of it: its length makes it a unit vector.
  const uint64_t stream = StreamOf(name_ + ".u");
  std::vector<float> whole(static_cast<size_t>(u_shard_.whole_elements()));
  double square = 0.0;
  for (size_t i = 0; i < whole.size(); ++i) {
    whole[i] = NormalAt(seed, stream, i);
    square += static_cast<double>(whole[i]) * whole[i];
  }
  const auto scale = static_cast<float>(1.0 / std::sqrt(square));
  std::vector<float> u(static_cast<size_t>(u_.size()));
  u_shard_.ForEachRun([&](int64_t local, int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      u[static_cast<size_t>(local + i)] = whole[static_cast<size_t>(begin + i)] * scale;
    }
  });
  FromHost(context, u.data(), u_);
}

void Weight::SettleFactors(Context& context, const ParamSet& params) {
  if (std::exchange(gain_is_stale_, false)) {
    row_norms_.Norms(context, params.value(raw_), sums_, params.value(gain_));
  }
  if (norm_ != WeightNorm::kSpectral) return;
  double sigma = 0.0;
  for (int i = 0; i < kMaxIterations; ++i) {
    const double before = sigma;
    power_iteration_.Step(context, params.value(raw_),
                          {.u = u_, .v = step_v_, .next_u = u_, .sigma = sigma_, .sums = sums_});
    sigma = ToHost<double>(context, sigma_).front();
    if (sigma <= before * (1.0 + kSettledGrowth)) return;
  }
}

void Weight::BeginStep(Context& context, const ParamSet& params, bool keep_power_iteration) {
  if (norm_ == WeightNorm::kWeight) {
    row_norms_.Forward(context, params.value(raw_), params.value(gain_), sums_, norms_, effective_);
  } else if (norm_ == WeightNorm::kSpectral) {
    power_iteration_.Step(
        context, params.value(raw_),
        {.u = u_, .v = step_v_, .next_u = step_u_, .sigma = sigma_, .sums = sums_});
    SpectralScale(context, params.value(raw_), sigma_, effective_);
    if (keep_power_iteration) CopyTensor(context, step_u_, u_);
  }
}

void Weight::EndStep(Context& context, const ParamSet& params) {
  const TensorView gradient = params.gradient(raw_);
  if (norm_ == WeightNorm::kWeight) {
    row_norms_.Backward(context, params.value(raw_), params.value(gain_), sums_, norms_,
                        {.dweight = gradient, .dv = gradient, .dg = params.gradient(gain_)});
  } else if (norm_ == WeightNorm::kSpectral) {
    power_iteration_.Backward(context, params.value(raw_), step_u_, step_v_, sigma_, sums_,
                              gradient);
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
      return row_norms_.Forward(context, params.value(raw_), params.value(gain_), sums_, norms_,
                                out);
    case WeightNorm::kSpectral:
      return SpectralScale(context, params.value(raw_), sigma_, out);
  }
}

void Weight::SetEffective(Context& context, const ParamSet& params, const float* matrix) {
  params.SetValue(context, raw_, matrix);
  gain_is_stale_ = norm_ == WeightNorm::kWeight;
}

}  // namespace entrain
