#include "model/model.h"

#include <utility>

namespace entrain {

namespace {

std::optional<EntropyRegularizer> RegularizerOf(const ModelConfig& config, ParamSet& params,
                                                const TensorParallel& tp) {
  if (!config.entropy_regularizer) return std::nullopt;
  return EntropyRegularizer(config, params, tp);
}

}  // namespace

Model::Model(const ModelConfig& config, const TensorParallel& tp)
    : tp_(tp),
      regularizer_(RegularizerOf(config, params_, tp)),
      transformer_(config, params_, tp) {}

int64_t Model::FactorBytes(DType compute) {
  Arena measure;
  transformer_.AllocateFactors(measure, compute);
  if (regularizer_) regularizer_->Allocate(measure);
  return measure.used_bytes();
}

void Model::Allocate(Context& context, DType compute, bool training,
                     const std::optional<ElementRange>& owned) {
  compute_ = compute;
  params_.Allocate(context.device(), compute, training, owned);
  factors_ = Arena(context, FactorBytes(compute));
  transformer_.AllocateFactors(factors_, compute);
  if (regularizer_) regularizer_->Allocate(factors_);
}

std::vector<Model::State> Model::ExtraState() {
  std::vector<State> states;
  for (Weight* weight : transformer_.factored_weights()) {
    if (weight->norm() != WeightNorm::kSpectral) continue;
    const TensorView u = weight->power_iteration_state();
    states.push_back({weight->name() + ".u", weight->power_iteration_shard(), u.data<float>()});
  }
  if (regularizer_) {
    states.push_back({"entropy.previous_step",
                      ShardSpec::Cut({config().layers, config().heads}, 1, tp_.place()),
                      regularizer_->previous_entropy().data<float>()});
  }
  return states;
}

}  // namespace entrain
