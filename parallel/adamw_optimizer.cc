#include "parallel/adamw_optimizer.h"

#include <algorithm>
#include <cmath>

#include "runtime/kernels/adamw.h"
#include "runtime/kernels/reduce.h"

namespace entrain {

AdamWOptimizer::AdamWOptimizer(const ParamSet& params, const AdamWHyperparameters& hyperparameters)
    : params_(params),
      hyperparameters_(hyperparameters),
      first_(params.flat_size() * SizeOf(DType::kF32)),
      second_(params.flat_size() * SizeOf(DType::kF32)) {}

int64_t AdamWOptimizer::BytesNeeded(const ParamSet& params) {
  return 2 * params.flat_size() * SizeOf(DType::kF32);
}

double AdamWOptimizer::GradientNorm(Context& context, const TensorParallel& tp) const {
  double cut = 0.0;
  double whole = 0.0;
  for (int i = 0; i < params_.size(); ++i) {
    const TensorView gradient = params_.gradient({i});
    (params_.spec({i}).shard.is_cut() ? cut : whole) +=
        SumOfSquares(context, gradient.Reshape({gradient.size()}));
  }
  tp.Sum({&cut, DType::kF64, {1}}, "gradient norm");
  return std::sqrt(whole + cut);
}

void AdamWOptimizer::Update(Context& context, double lr, double gradient_norm) {
  const AdamWHyperparameters& h = hyperparameters_;
  const double scale = h.clip > 0.0 ? std::min(1.0, h.clip / (gradient_norm + 1e-6)) : 1.0;
  ++updates_;
  for (int i = 0; i < params_.size(); ++i) {
    const ParamId id{i};
    const ParameterSpec& spec = params_.spec(id);
    const int64_t n = params_.padded_size(id);
    const TensorView value = params_.value(id).Reshape({n});
    const TensorView compute = params_.compute(id).Reshape({n});
    AdamW(context, {.value = value,
                    .gradient = params_.gradient(id).Reshape({n}),
                    .first_moment = first_moment(id),
                    .second_moment = second_moment(id),
                    .compute = compute.dtype() == DType::kBf16 ? compute : TensorView(),
                    .lr = lr,
                    .beta1 = h.beta1,
                    .beta2 = h.beta2,
                    .eps = h.eps,
                    .weight_decay = spec.matrix ? h.weight_decay : 0.0,
                    .gradient_scale = scale,
                    .step = updates_});
    if (std::isfinite(spec.minimum)) ClampMin(context, value, spec.minimum);
  }
}

TensorView AdamWOptimizer::Moment(const Buffer& buffer, ParamId id) const {
  return {static_cast<float*>(buffer.data()) + params_.offset(id),
          DType::kF32,
          {params_.padded_size(id)}};
}

}  // namespace entrain
