#include "model/model.h"

#include <utility>

namespace entrain {

namespace {

std::optional<EntropyRegularizer> RegularizerOf(const ModelConfig& config, ParamSet& params) {
  if (!config.entropy_regularizer) return std::nullopt;
  return EntropyRegularizer(config, params);
}

}  // namespace

Model::Model(const ModelConfig& config)
    : regularizer_(RegularizerOf(config, params_)), transformer_(config, params_) {}

int64_t Model::ParameterBytes(DType compute, bool training) const {
  return params_.BytesNeeded(compute, training);
}

int64_t Model::FactorBytes(DType compute) {
  Arena measure;
  transformer_.AllocateFactors(measure, compute);
  return measure.used_bytes();
}

void Model::Allocate(DType compute, bool training) {
  compute_ = compute;
  params_.Allocate(compute, training);
  factors_ = Arena(FactorBytes(compute));
  transformer_.AllocateFactors(factors_, compute);
}

std::vector<Model::State> Model::ExtraState() {
  std::vector<State> states;
  for (Weight* weight : transformer_.factored_weights()) {
    if (weight->norm() != WeightNorm::kSpectral) continue;
    const TensorView u = weight->power_iteration_state();
    states.push_back({weight->name() + ".u", {u.size()}, u.data<float>()});
  }
  if (regularizer_) {
    states.push_back({"entropy.previous_step",
                      {config().layers, config().heads},
                      regularizer_->previous_entropy().data()});
  }
  return states;
}

}  // namespace entrain
