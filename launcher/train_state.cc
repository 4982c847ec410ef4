#include "launcher/train_state.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace entrain {

namespace {

// JSON has no NaN and writes null for it. A head's entropy may be one where the loss is finite, when scores overflow.
void NullsToNaN(nlohmann::json& table) {
  for (nlohmann::json& row : table) {
    for (nlohmann::json& value : row) {
      if (value.is_null()) value = std::numeric_limits<double>::quiet_NaN();
    }
  }
}

}  // namespace

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TrainCounters, step, updates, bad_steps_in_a_row, bad_steps,
                                   tokens, has_previous_entropy, seed, global_batch, shuffle,
                                   data_fingerprint, precision, head_entropy)

std::string ToJson(const TrainCounters& counters) { return nlohmann::json(counters).dump(2); }

absl::StatusOr<TrainCounters> ParseTrainCounters(const std::string& json, const std::string& path) {
  try {
    nlohmann::json fields = nlohmann::json::parse(json);
    NullsToNaN(fields["head_entropy"]);
    return fields.get<TrainCounters>();
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat(path, "/state.json: ", error.what()));
  }
}

std::vector<StateTensor> ModelState(Model& model) {
  std::vector<StateTensor> tensors;
  const ParamSet& params = model.params();
  for (int i = 0; i < params.size(); ++i) {
    const ParameterSpec& spec = params.spec({i});
    tensors.push_back({.name = spec.name,
                       .global_shape = spec.shape,
                       .shape = spec.shape,
                       .data = params.value({i}).data<float>()});
  }
  for (const Model::State& state : model.ExtraState()) {
    tensors.push_back({.name = state.name,
                       .global_shape = state.shard.shape,
                       .shape = state.shard.shape,
                       .data = state.data});
  }
  return tensors;
}

std::vector<StateTensor> FullState(Model& model, const AdamWOptimizer& optimizer) {
  std::vector<StateTensor> tensors = ModelState(model);
  const ParamSet& params = model.params();
  for (int i = 0; i < params.size(); ++i) {
    const ParameterSpec& spec = params.spec({i});
    const ElementRange flat = PartOf(params, {i}, optimizer.owned()).flat;
    tensors.push_back({.name = "optimizer.first_moment." + spec.name,
                       .global_shape = spec.shape,
                       .shape = spec.shape,
                       .data = optimizer.first_moment(flat).data<float>()});
    tensors.push_back({.name = "optimizer.second_moment." + spec.name,
                       .global_shape = spec.shape,
                       .shape = spec.shape,
                       .data = optimizer.second_moment(flat).data<float>()});
  }
  return tensors;
}

}  // namespace entrain
