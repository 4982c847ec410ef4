#include "launcher/train_state.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

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

namespace {

constexpr char kFirstMoment[] = "optimizer.first_moment.";
constexpr char kSecondMoment[] = "optimizer.second_moment.";

StateTensor BoxOf(std::string name, const ShardSpec& shard, const TensorBox& box, float* data,
                  DeviceKind device) {
  return {.name = std::move(name),
          .global_shape = shard.shape,
          .view = shard.view,
          .box = box,
          .data = data,
          .device = device};
}

StateTensor ValueOf(const ParamSet& params, ParamId id, const OwnedPart& part) {
  const bool any = part.box.elements() > 0;
  return BoxOf(params.spec(id).name, params.spec(id).shard, part.box,
               any ? params.HeldValue(id, part.flat).data<float>() : nullptr, params.device());
}

// Of one parameter: what lies in `range` of the flat buffers.
void AddMoments(const ParamSet& params, const AdamWOptimizer& optimizer, ParamId id,
                const ElementRange& range, std::vector<StateTensor>* tensors) {
  const ParameterSpec& spec = params.spec(id);
  const OwnedPart part = PartOf(params, id, range);
  const bool any = part.box.elements() > 0;
  auto* first = any ? optimizer.first_moment(part.flat).data<float>() : nullptr;
  auto* second = any ? optimizer.second_moment(part.flat).data<float>() : nullptr;
  tensors->push_back(BoxOf(kFirstMoment + spec.name, spec.shard, part.box, first, params.device()));
  tensors->push_back(
      BoxOf(kSecondMoment + spec.name, spec.shard, part.box, second, params.device()));
}

// What every tp rank holds is written by the first of them.
bool IsWrittenBy(int tp_rank, const ShardSpec& shard) { return shard.is_cut() || tp_rank == 0; }

}  // namespace

std::vector<StateTensor> ModelState(Model& model) {
  std::vector<StateTensor> tensors;
  const ParamSet& params = model.params();
  tensors.reserve(static_cast<size_t>(params.size()));
  for (int i = 0; i < params.size(); ++i) {
    tensors.push_back(ValueOf(params, {i}, PartOf(params, {i}, params.Held({i}))));
  }
  for (const Model::State& state : model.ExtraState()) {
    tensors.push_back(BoxOf(state.name, state.shard, state.shard.box, state.data, params.device()));
  }
  return tensors;
}

std::vector<StateTensor> FullState(Model& model, const AdamWOptimizer& optimizer) {
  std::vector<StateTensor> tensors = ModelState(model);
  const ParamSet& params = model.params();
  for (int i = 0; i < params.size(); ++i) {
    AddMoments(params, optimizer, {i}, optimizer.owned(), &tensors);
  }
  return tensors;
}

std::vector<StateTensor> StateToWrite(Model& model, const AdamWOptimizer& optimizer,
                                      const Mesh& mesh) {
  std::vector<StateTensor> tensors;
  const ParamSet& params = model.params();
  const ElementRange mine =
      OwnedRanges(params, mesh.dp().size())[static_cast<size_t>(mesh.dp().rank())];
  const int tp_rank = mesh.tp().rank();
  for (int i = 0; i < params.size(); ++i) {
    if (!IsWrittenBy(tp_rank, params.spec({i}).shard)) continue;
    const OwnedPart part = PartOf(params, {i}, mine);
    tensors.push_back(ValueOf(params, {i}, part));
    AddMoments(params, optimizer, {i}, mine, &tensors);
  }
  if (mesh.dp().rank() != 0) return tensors;
  for (const Model::State& state : model.ExtraState()) {
    if (!IsWrittenBy(tp_rank, state.shard)) continue;
    tensors.push_back(BoxOf(state.name, state.shard, state.shard.box, state.data, params.device()));
  }
  return tensors;
}

int64_t MostBytesToWrite(Model& model, int dp) {
  constexpr int64_t kOfAParameter = 3;  // value and two moments
  const ParamSet& params = model.params();
  const int tp_rank = model.tp().rank();
  int64_t extra = 0;  // of the first dp rank
  for (const Model::State& state : model.ExtraState()) {
    if (IsWrittenBy(tp_rank, state.shard)) extra += state.shard.box.elements();
  }
  int64_t most = 0;
  for (const ElementRange& range : OwnedRanges(params, dp)) {
    int64_t elements = std::exchange(extra, 0);
    for (int i = 0; i < params.size(); ++i) {
      if (!IsWrittenBy(tp_rank, params.spec({i}).shard)) continue;
      elements += kOfAParameter * PartOf(params, {i}, range).box.elements();
    }
    most = std::max(most, elements);
  }
  return most * static_cast<int64_t>(sizeof(float));
}

}  // namespace entrain
