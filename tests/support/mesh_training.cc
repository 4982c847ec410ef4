#include "tests/support/mesh_training.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "launcher/train_state.h"
#include "launcher/trainer.h"
#include "parallel/checkpoint.h"
#include "runtime/base/check.h"
#include "tests/support/local_ranks.h"

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
std::vector<float> AsAllHoldIt(const ParamSet& params, ParamId id) {
  std::vector<float> values(static_cast<size_t>(params.padded_size(id)));
  if (params.holds_part() && params.has_copy(id)) {
    const auto* copy = params.compute(id).data<Bf16>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(copy[i]);
  } else {
    std::copy_n(params.value(id).data<float>(), values.size(), values.begin());
  }
  return values;
}

void AddValues(const ParamSet& params, ParamId id, StepTrace& trace) {
  const ShardSpec& shard = params.spec(id).shard;
  const std::vector<float> held_by_all = AsAllHoldIt(params, id);
  trace.values.insert(trace.values.end(), held_by_all.begin(), held_by_all.end());
  if (!shard.is_cut()) {
    trace.shared.insert(trace.shared.end(), held_by_all.begin(), held_by_all.end());
  }
  const auto begin = static_cast<std::ptrdiff_t>(trace.whole.size());
  trace.whole.resize(trace.whole.size() + static_cast<size_t>(shard.whole_elements()), NAN);
  const ElementRange held = params.Held(id);
  const auto* data = params.HeldValue(id, held).data<float>();
  shard.ForEachRun([&](int64_t local, int64_t whole, int64_t count) {
    const int64_t first = params.offset(id) + local;
    const ElementRange part = Common({first, first + count}, held);
    std::copy_n(data + (part.begin - held.begin), part.size(),
                trace.whole.begin() + begin + whole + (part.begin - first));
  });
}

StepTrace TraceOf(const StepReport& report, const Model& model) {
  StepTrace trace{.loss = report.loss,
                  .penalty = report.penalty,
                  .grad_norm = report.grad_norm,
                  .entropy = Flat(report.entropy.Means()),
                  .gates = Flat(report.gate),
                  .thresholds = Flat(report.threshold)};
  for (int i = 0; i < model.params().size(); ++i) AddValues(model.params(), {i}, trace);
  return trace;
}

// Matrices of trained size, so that attention, and with it every entropy, depends on the data.
void MakeMatricesLarge(ParamSet& params) {
  for (int i = 0; i < params.size(); ++i) {
    if (!params.spec({i}).matrix) continue;
    const ElementRange held = params.Held({i});
    auto* values = params.HeldValue({i}, held).data<float>();
    for (int64_t k = 0; k < held.size(); ++k) values[k] *= 4.0F;
  }
}

// A rank's model and trainer, ready for the first step.
struct Rank {
  Rank(const TrainConfig& config, const Mesh& its_mesh)
      : mesh(its_mesh),
        context(*Context::CreateCpu(1)),
        data(*TokenDataset::Open(FileSystem::Posix(), config.data.train, config.data.format,
                                 config.model.context, config.model.vocab)),
        model(config.model, TensorParallel(mesh.tp(), config.parallel.sequence_parallel)) {
    AllocateForTraining(config, mesh, model);
    trainer.emplace(config, *context, mesh, model, data);
  }

  void StartFresh(uint64_t seed) {
    model.transformer().Initialize(*context, seed);
    MakeMatricesLarge(model.params());
    model.transformer().InitializeFactors(*context, seed);
    trainer->Start();
  }

  void StartFrom(const std::string& checkpoint) {
    const auto reader = CheckpointReader::Open(FileSystem::Posix(), checkpoint);
    CHECK(reader.ok()) << reader.status().ToString();
    const absl::Status read = reader->Read(FullState(model, trainer->optimizer()));
    CHECK(read.ok()) << read.ToString();
    trainer->counters() = *ParseTrainCounters(reader->state_json(), checkpoint);
    trainer->Start();
  }

  StepTrace Step() {
    const absl::Status read = trainer->ReadBatches();
    CHECK(read.ok()) << read.ToString();
    return TraceOf(trainer->Step(), model);
  }

  const Mesh& mesh;
  std::unique_ptr<Context> context;
  TokenDataset data;
  Model model;
  std::optional<Trainer> trainer;
};

RankTrace TrainRank(const TrainConfig& config, const Mesh& mesh) {
  Rank rank(config, mesh);
  rank.StartFresh(config.train.seed);
  RankTrace trace;
  for (int64_t step = 0; step < config.train.steps; ++step) trace.push_back(rank.Step());
  return trace;
}

RankTrace TrainRankStretch(const TrainConfig& config, const Mesh& mesh, const Stretch& stretch) {
  CheckpointStore store(FileSystem::Posix(), config.run.dir);
  Rank rank(config, mesh);
  if (stretch.from > 0) {
    rank.StartFrom(JoinPath(config.run.dir, CheckpointName(stretch.from)));
  } else {
    rank.StartFresh(config.train.seed);
  }
  RankTrace trace(1);
  for (int i = 0; i < rank.model.params().size(); ++i) {
    AddValues(rank.model.params(), {i}, trace[0]);
  }
  for (int64_t step = stretch.from; step < stretch.to; ++step) trace.push_back(rank.Step());
  const auto saved =
      store.Save(mesh.world(),
                 {.step = stretch.to,
                  .tensors = StateToWrite(rank.model, rank.trainer->optimizer(), mesh),
                  .state_json = ToJson(rank.trainer->counters()),
                  .config_toml = "of a test"},
                 {.keep = 100});
  CHECK(saved.ok()) << saved.status().ToString();
  return trace;
}

// Runs every rank of the mesh as a thread.
std::vector<RankTrace> OnMesh(const MeshShape& shape, const WrapWorld& wrap,
                              const std::function<RankTrace(const Mesh& mesh)>& body) {
  std::vector<RankTrace> traces(static_cast<size_t>(shape.world()));
  OnLocalRanks(shape.world(), [&](std::unique_ptr<Communicator> world) {
    const auto rank = static_cast<size_t>(world->rank());
    if (wrap) world = wrap(std::move(world));
    traces[rank] = body(Mesh(std::move(world), shape));
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
  return OnMesh(shape, wrap, [&](const Mesh& mesh) { return TrainRank(config, mesh); });
}

std::vector<RankTrace> TrainStretch(const TrainConfig& config, const MeshShape& shape,
                                    const Stretch& stretch) {
  return OnMesh(shape, {},
                [&](const Mesh& mesh) { return TrainRankStretch(config, mesh, stretch); });
}

}  // namespace entrain
