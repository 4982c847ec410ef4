#include "tests/support/mesh_training.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "launcher/memory_plan.h"
#include "launcher/state_on_host.h"
#include "launcher/train_state.h"
#include "launcher/trainer.h"
#include "parallel/checkpoint.h"
#include "runtime/base/check.h"
#include "runtime/tensor/tensor_copy.h"
#include "tests/support/local_ranks.h"
#include "tests/support/test_device.h"

namespace entrain {
namespace {

std::vector<double> Flat(const HeadTable& table) {
  std::vector<double> values;
  for (const std::vector<double>& layer : table) {
    values.insert(values.end(), layer.begin(), layer.end());
  }
  return values;
}

// A parameter as every dp rank must have it: its value or, where each holds a part of that, the copy that kernels read.
std::vector<float> AsAllHoldIt(Context& context, const ParamSet& params, ParamId id) {
  std::vector<float> values(static_cast<size_t>(params.padded_size(id)));
  if (params.holds_part() && params.has_copy(id)) {
    const std::vector<Bf16> copy = ToHost<Bf16>(context, params.compute(id));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(copy[i]);
  } else {
    values = ToHost<float>(context, params.value(id));
  }
  return values;
}

void AddValues(Context& context, const ParamSet& params, ParamId id, StepTrace& trace) {
  const ShardSpec& shard = params.spec(id).shard;
  const std::vector<float> held_by_all = AsAllHoldIt(context, params, id);
  trace.values.insert(trace.values.end(), held_by_all.begin(), held_by_all.end());
  if (!shard.is_cut()) {
    trace.shared.insert(trace.shared.end(), held_by_all.begin(), held_by_all.end());
  }
  const auto begin = static_cast<std::ptrdiff_t>(trace.whole.size());
  trace.whole.resize(trace.whole.size() + static_cast<size_t>(shard.whole_elements()), NAN);
  const ElementRange held = params.Held(id);
  const std::vector<float> data = ToHost<float>(context, params.HeldValue(id, held));
  shard.ForEachRun([&](int64_t local, int64_t whole, int64_t count) {
    const int64_t first = params.offset(id) + local;
    const ElementRange part = Common({first, first + count}, held);
    std::copy_n(data.begin() + (part.begin - held.begin), part.size(),
                trace.whole.begin() + begin + whole + (part.begin - first));
  });
}

StepTrace TraceOf(Context& context, const StepReport& report, const Model& model) {
  StepTrace trace{.loss = report.loss,
                  .penalty = report.penalty,
                  .grad_norm = report.grad_norm,
                  .entropy = Flat(report.entropy.Means()),
                  .gates = Flat(report.gate),
                  .thresholds = Flat(report.threshold)};
  for (int i = 0; i < model.params().size(); ++i) AddValues(context, model.params(), {i}, trace);
  return trace;
}

// Matrices of trained size, so that attention, and with it every entropy, depends on the data.
void MakeMatricesLarge(Context& context, ParamSet& params) {
  for (int i = 0; i < params.size(); ++i) {
    if (!params.spec({i}).matrix) continue;
    const ElementRange held = params.Held({i});
    std::vector<float> values = ToHost<float>(context, params.HeldValue({i}, held));
    for (float& value : values) value *= 4.0F;
    FromHost(context, values.data(), params.HeldValue({i}, held));
  }
}

// A rank's model and trainer, ready for the first step.
struct Rank {
  Rank(const TrainConfig& config, Context& its_context, const Mesh& its_mesh)
      : mesh(its_mesh),
        context(&its_context),
        data(*TokenDataset::Open(FileSystem::Posix(), config.data.train, config.data.format,
                                 config.model.context, config.model.vocab)),
        model(config.model, TensorParallel(mesh.device_tp(), config.parallel.sequence_parallel)) {
    AllocateForTraining(config, *context, mesh, model);
    trainer.emplace(config, *context, mesh, model, data);
  }

  void StartFresh(uint64_t seed) {
    model.transformer().Initialize(*context, seed);
    MakeMatricesLarge(*context, model.params());
    model.transformer().InitializeFactors(*context, seed);
    trainer->Start();
  }

  void StartFrom(const std::string& checkpoint) {
    const auto reader = CheckpointReader::Open(FileSystem::Posix(), checkpoint);
    CHECK(reader.ok()) << reader.status().ToString();
    StateOnHost state(*context, FullState(model, trainer->optimizer()));
    const absl::Status read = reader->Read(state.tensors());
    CHECK(read.ok()) << read.ToString();
    state.Push();
    trainer->counters() = *ParseTrainCounters(reader->state_json(), checkpoint);
    trainer->Start();
  }

  StepTrace Step() {
    const absl::Status read = trainer->ReadBatches();
    CHECK(read.ok()) << read.ToString();
    return TraceOf(*context, trainer->Step(), model);
  }

  const Mesh& mesh;
  Context* context;
  TokenDataset data;
  Model model;
  std::optional<Trainer> trainer;
};

RankTrace TrainRank(const TrainConfig& config, Context& context, const Mesh& mesh) {
  Rank rank(config, context, mesh);
  rank.StartFresh(config.train.seed);
  RankTrace trace;
  for (int64_t step = 0; step < config.train.steps; ++step) trace.push_back(rank.Step());
  return trace;
}

RankTrace TrainRankStretch(const TrainConfig& config, Context& context, const Mesh& mesh,
                           const Stretch& stretch) {
  CheckpointStore store(FileSystem::Posix(), config.run.dir);
  Rank rank(config, context, mesh);
  if (stretch.from > 0) {
    rank.StartFrom(JoinPath(config.run.dir, CheckpointName(stretch.from)));
  } else {
    rank.StartFresh(config.train.seed);
  }
  RankTrace trace(1);
  for (int i = 0; i < rank.model.params().size(); ++i) {
    AddValues(*rank.context, rank.model.params(), {i}, trace[0]);
  }
  for (int64_t step = stretch.from; step < stretch.to; ++step) trace.push_back(rank.Step());
  StateOnHost state(*rank.context, StateToWrite(rank.model, rank.trainer->optimizer(), mesh));
  state.Pull();
  const auto saved = store.Save(mesh.world(),
                                {.step = stretch.to,
                                 .tensors = state.tensors(),
                                 .state_json = ToJson(rank.trainer->counters()),
                                 .config_toml = "of a test"},
                                {.keep = 100});
  CHECK(saved.ok()) << saved.status().ToString();
  return trace;
}

// Runs every rank of the mesh as a thread.
std::vector<RankTrace> OnMesh(const MeshShape& shape, const WrapWorld& wrap,
                              const std::function<RankTrace(Context&, const Mesh&)>& body) {
  std::vector<RankTrace> traces(static_cast<size_t>(shape.world()));
  OnLocalRanks(shape.world(), [&](std::unique_ptr<Communicator> world) {
    const auto rank = static_cast<size_t>(world->rank());
    if (wrap) world = wrap(std::move(world));
    const std::unique_ptr<Context> context = TestContext(1, world->rank());
    const DeviceCollectives collectives = ChooseDeviceCollectives(*context, *world);
    traces[rank] = body(*context, Mesh(std::move(world), shape, collectives));
  });
  return traces;
}

}  // namespace

int LargestMeshWorld() {
  const char* asked = std::getenv("ENTRAIN_MESH_WORLD");
  return asked == nullptr ? 4 : std::atoi(asked);
}

std::vector<RankTrace> TrainOnMesh(const TrainConfig& config, const MeshShape& shape,
                                   const WrapWorld& wrap) {
  return OnMesh(shape, wrap, [&](Context& context, const Mesh& mesh) {
    return TrainRank(config, context, mesh);
  });
}

std::vector<RankTrace> TrainStretch(const TrainConfig& config, const MeshShape& shape,
                                    const Stretch& stretch) {
  return OnMesh(shape, {}, [&](Context& context, const Mesh& mesh) {
    return TrainRankStretch(config, context, mesh, stretch);
  });
}

}  // namespace entrain
