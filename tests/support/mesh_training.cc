#include "tests/support/mesh_training.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "launcher/trainer.h"
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

void AddValues(const ParamSet& params, ParamId id, StepTrace& trace) {
  const auto* data = params.value(id).data<float>();
  const ShardSpec& shard = params.spec(id).shard;
  trace.values.insert(trace.values.end(), data, data + params.padded_size(id));
  if (!shard.is_cut()) {
    trace.shared.insert(trace.shared.end(), data, data + params.padded_size(id));
  }
  const auto begin = static_cast<std::ptrdiff_t>(trace.whole.size());
  trace.whole.resize(trace.whole.size() + static_cast<size_t>(shard.whole_elements()), NAN);
  shard.ForEachRun([&](int64_t local, int64_t whole, int64_t count) {
    std::copy_n(data + local, count, trace.whole.begin() + begin + whole);
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
    auto* values = params.value({i}).data<float>();
    for (int64_t k = 0; k < params.padded_size({i}); ++k) values[k] *= 4.0F;
  }
}

RankTrace TrainRank(const TrainConfig& config, const Mesh& mesh) {
  auto context = Context::CreateCpu(1);
  CHECK(context.ok()) << context.status().ToString();
  auto data = TokenDataset::Open(FileSystem::Posix(), config.data.train, config.data.format,
                                 config.model.context, config.model.vocab);
  CHECK(data.ok()) << data.status().ToString();
  Model model(config.model, TensorParallel(mesh.tp(), config.parallel.sequence_parallel));
  model.Allocate(config.compute_dtype(), true);
  Trainer trainer(config, **context, mesh, model, *data);
  model.transformer().Initialize(**context, config.train.seed);
  MakeMatricesLarge(model.params());
  model.transformer().InitializeFactors(**context, config.train.seed);
  trainer.Start();
  RankTrace trace;
  for (int64_t step = 0; step < config.train.steps; ++step) {
    const absl::Status read = trainer.ReadBatches();
    CHECK(read.ok()) << read.ToString();
    trace.push_back(TraceOf(trainer.Step(), model));
  }
  return trace;
}

}  // namespace

std::vector<RankTrace> TrainOnMesh(const TrainConfig& config, const MeshShape& shape,
                                   const WrapWorld& wrap) {
  std::vector<RankTrace> traces(static_cast<size_t>(shape.world()));
  OnLocalRanks(shape.world(), [&](std::unique_ptr<Communicator> world) {
    const auto rank = static_cast<size_t>(world->rank());
    if (wrap) world = wrap(std::move(world));
    traces[rank] = TrainRank(config, Mesh(std::move(world), shape));
  });
  return traces;
}

}  // namespace entrain
