#include "tests/support/mesh_training.h"

#include <thread>

#include "launcher/trainer.h"
#include "parallel/comm/communicator_host.h"
#include "parallel/comm/transport_local.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

std::vector<double> Flat(const HeadTable& table) {
  std::vector<double> values;
  for (const std::vector<double>& layer : table) {
    values.insert(values.end(), layer.begin(), layer.end());
  }
  return values;
}

StepTrace TraceOf(const StepReport& report, const Model& model) {
  StepTrace trace{.loss = report.loss,
                  .penalty = report.penalty,
                  .grad_norm = report.grad_norm,
                  .entropy = Flat(report.entropy.Means())};
  const ParamSet& params = model.params();
  for (int i = 0; i < params.size(); ++i) {
    const auto* data = params.value({i}).data<float>();
    trace.values.insert(trace.values.end(), data, data + params.padded_size({i}));
  }
  const EntropyRegularizer* regularizer = model.regularizer();
  if (regularizer == nullptr) return trace;
  for (int64_t l = 0; l < model.config().layers; ++l) {
    for (int64_t h = 0; h < model.config().heads; ++h) {
      trace.gates.push_back(regularizer->Gate(l, h));
      trace.thresholds.push_back(regularizer->Threshold(params, l, h));
    }
  }
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
  Model model(config.model);
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
  auto transports = MakeLocalTransports(shape.world());
  std::vector<RankTrace> traces(static_cast<size_t>(shape.world()));
  std::vector<std::thread> threads;
  for (size_t r = 0; r < traces.size(); ++r) {
    threads.emplace_back([&, r] {
      std::unique_ptr<Communicator> world = MakeHostCommunicator(std::move(transports[r]));
      if (wrap) world = wrap(std::move(world));
      traces[r] = TrainRank(config, Mesh(std::move(world), shape));
    });
  }
  for (std::thread& thread : threads) thread.join();
  return traces;
}

}  // namespace entrain
