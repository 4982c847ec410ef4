#include "launcher/trainer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "launcher/entropy_over_ranks.h"
#include "launcher/lr_schedule.h"
#include "model/non_finite.h"

namespace entrain {
namespace {

// Code, shared libraries, the matrix products' work space: measured (tests/bench/RESULTS.md).
constexpr int64_t kProgramBytes = int64_t{32} << 20;

ActivationLayout TrainingLayout(const TrainConfig& config, int dp, DeviceKind device) {
  return {.batch = config.micro_batch(dp),
          .positions = config.model.context,
          .compute = config.compute_dtype(),
          .training = true,
          .recompute = config.train.recompute,
          .logits_rows = Head::ChunkRows(device)};
}

int64_t ActivationBytes(const TrainConfig& config, int dp, DeviceKind device, const Model& model) {
  Arena measure;
  model.transformer().AllocateActivations(measure, TrainingLayout(config, dp, device));
  return measure.peak_bytes();
}

AdamWHyperparameters Hyperparameters(const OptimizerSection& optimizer) {
  return {.beta1 = optimizer.beta1,
          .beta2 = optimizer.beta2,
          .eps = optimizer.eps,
          .weight_decay = optimizer.weight_decay,
          .clip = optimizer.clip};
}

DType WireOf(const ParallelSection& parallel) {
  return parallel.reduce_precision == Precision::kBf16 ? DType::kBf16 : DType::kF32;
}

GradientBuckets::Options BucketOptions(const ParallelSection& parallel,
                                       const AdamWOptimizer& optimizer) {
  GradientBuckets::Options options{.bucket_bytes = static_cast<int64_t>(parallel.bucket_mb * 1e6),
                                   .wire = WireOf(parallel)};
  if (optimizer.sharded()) options.owned = optimizer.ranges();
  return options;
}

// `value(layer, head)` of every head here.
template <typename Value>
HeadTable TableOf(int64_t layers, int64_t heads, Value&& value) {
  HeadTable table(static_cast<size_t>(layers));
  for (int64_t l = 0; l < layers; ++l) {
    for (int64_t h = 0; h < heads; ++h) table[static_cast<size_t>(l)].push_back(value(l, h));
  }
  return table;
}

TensorView ViewOf(std::vector<double>& values) {
  return {values.data(), DType::kF64, {static_cast<int64_t>(values.size())}};
}

std::vector<ElementRange> UpdatedRanges(const TrainConfig& config, int dp, const ParamSet& params) {
  return AdamWOptimizer::RangesOf(params, dp, static_cast<int>(config.parallel.zero));
}

// Of the rank that holds most.
int64_t ParameterBytes(const TrainConfig& config, const MeshShape& mesh, const ParamSet& params) {
  int64_t most = 0;
  for (const ElementRange& range : UpdatedRanges(config, mesh.dp, params)) {
    most = std::max(most, params.BytesNeeded(config.compute_dtype(), true, range));
  }
  return most;
}

}  // namespace

void AllocateForTraining(const TrainConfig& config, Context& context, const Mesh& mesh,
                         Model& model) {
  const Communicator& dp = mesh.dp();
  const std::vector<ElementRange> ranges = UpdatedRanges(config, dp.size(), model.params());
  model.Allocate(context, config.compute_dtype(), true, ranges[static_cast<size_t>(dp.rank())]);
}

MemoryPlan PlanMemory(const TrainConfig& config, const MeshShape& mesh, DeviceKind device,
                      Model& model) {
  return {.parameters = ParameterBytes(config, mesh, model.params()),
          .optimizer = AdamWOptimizer::BytesNeeded(model.params(), mesh.dp,
                                                   static_cast<int>(config.parallel.zero)),
          .factors = model.FactorBytes(config.compute_dtype()),
          .activations = ActivationBytes(config, mesh.dp, device, model),
          .wire = GradientBuckets::BytesNeeded(model.params(), mesh.dp, WireOf(config.parallel)),
          .snapshot = config.checkpoint.background ? MostBytesToWrite(model, mesh.dp) : 0,
          .program = kProgramBytes};
}

Trainer::Trainer(const TrainConfig& config, Context& context, const Mesh& mesh, Model& model,
                 const TokenDataset& data)
    : config_(config),
      context_(context),
      mesh_(mesh),
      model_(model),
      data_(data),
      optimizer_(model.params(), Hyperparameters(config.optimizer), mesh.device_dp(),
                 static_cast<int>(config.parallel.zero)),
      buckets_(model.params(), mesh.device_dp(), BucketOptions(config.parallel, optimizer_)),
      arena_(context, ActivationBytes(config, mesh.dp().size(), context.device(), model)),
      clock_(mesh) {
  counters_.seed = config.train.seed;
  counters_.global_batch = config.train.global_batch;
  counters_.shuffle = config.data.shuffle;
  counters_.data_fingerprint = data.fingerprint();
  counters_.precision = kPrecisionNames.Name(config.train.precision);
}

void Trainer::Start() {
  optimizer_.set_updates(counters_.updates);
  if (model_.regularizer() != nullptr) {
    model_.regularizer()->set_has_previous(counters_.has_previous_entropy);
  }
  model_.params().RefreshCompute(context_);
  optimizer_.ShareCopies();
  const BatchSampler sampler(config_.train.seed, data_.num_sequences(), config_.train.global_batch,
                             config_.data.shuffle);
  const Communicator& dp = mesh_.dp();
  loader_ = std::make_unique<BatchLoader>(data_, sampler, counters_.step,
                                          BatchShare{.global_batch = config_.train.global_batch,
                                                     .micro_batch = config_.micro_batch(dp.size()),
                                                     .rank = dp.rank(),
                                                     .ranks = dp.size()});
}

absl::Status Trainer::ReadBatches() {
  clock_.Enter(&StepTimes::data);
  batches_.clear();
  for (int64_t m = 0; m < config_.accumulation(mesh_.dp().size()); ++m) {
    ASSIGN_OR_RETURN(Batch batch, loader_->Next());
    batches_.push_back(std::move(batch));
  }
  clock_.Enter(nullptr);
  return absl::OkStatus();
}

StepReport Trainer::Step() {
  Arena::Scope scope(arena_);
  Activations activations = model_.transformer().AllocateActivations(
      arena_, TrainingLayout(config_, mesh_.dp().size(), context_.device()));
  StepReport report;
  Accumulate(activations, report);
  clock_.Enter(&StepTimes::backward);
  SumGradients();
  clock_.Enter(&StepTimes::optimizer);
  SumScalars(report);
  report.lr = LearningRate(config_.optimizer, config_.train.steps, counters_.step);
  report.grad_norm = optimizer_.GradientNorm(context_, model_.tp());
  report.applied = std::isfinite(report.total) && std::isfinite(report.grad_norm);
  if (report.applied) optimizer_.Update(context_, report.lr, report.grad_norm);
  Finish(activations, report);
  GatherReport(report);
  report.times = clock_.Take();
  return report;
}

void Trainer::Accumulate(Activations& activations, StepReport& report) {
  const auto micro_steps = static_cast<int64_t>(batches_.size());
  clock_.Enter(&StepTimes::forward);
  report.entropy = EntropyStatistics(model_.config().layers, HeadsHere());
  model_.transformer().BeginStep(context_, true);
  if (EntropyRegularizer* regularizer = model_.regularizer()) {
    regularizer->BeginStep(counters_.step, micro_steps * mesh_.dp().size());
  }
  buckets_.BeginStep();
  for (int64_t m = 0; m < micro_steps; ++m) MicroStep(m, activations, report);
}

void Trainer::MicroStep(int64_t index, Activations& activations, StepReport& report) {
  clock_.Enter(&StepTimes::forward);
  const bool accumulate = index > 0;
  const bool last = index + 1 == static_cast<int64_t>(batches_.size());
  const Transformer::Tokens tokens =
      PutTokens(context_, model_, batches_[static_cast<size_t>(index)], activations);
  const double share = 1.0 / static_cast<double>(batches_.size() * mesh_.dp().size());
  Transformer& transformer = model_.transformer();
  transformer.RunBlocks(context_, tokens.inputs, activations);

  // The entropies of the whole micro-step are known before any of them is regularised: summed over ranks, so that all see
  // the same E, δ and gates. They travel while the head computes.
  clock_.Enter(&StepTimes::entropy);
  EntropyStatistics mine(model_.config().layers, HeadsHere());
  mine.Add(context_, activations.entropy);
  StatisticsSum sum(std::move(mine), mesh_.dp());
  clock_.Enter(&StepTimes::forward);
  report.loss +=
      share * transformer.LossAndGradient(context_, tokens, share, accumulate, activations);
  clock_.Enter(&StepTimes::entropy);
  const EntropyStatistics statistics = sum.Wait();
  report.entropy.Merge(statistics);
  EntropyRegularizer* regularizer = model_.regularizer();
  Transformer::EntropyGradient gradient;
  if (regularizer != nullptr) {
    regularizer->Measure(context_, model_.params(), activations.entropy, statistics);
    gradient = [&](int64_t layer, const TensorView& entropy, const TensorView& buffer) {
      return regularizer->RowGradient(context_, model_.params(), layer, entropy, buffer);
    };
  }
  clock_.Enter(&StepTimes::backward);
  transformer.Backward(context_, tokens, gradient, accumulate, activations, [&](int64_t layer) {
    if (last) LayerComplete(layer);
  });
}

void Trainer::LayerComplete(int64_t layer) {
  const auto [begin, end] = model_.transformer().FlatRange(layer);
  buckets_.SumPartial(model_.tp(), {begin, end});
  model_.transformer().EndStep(context_, layer);
  buckets_.Complete(context_, {begin, end});
}

// What is left, before and behind the layers, and the rest of what is under way.
void Trainer::SumGradients() {
  const int64_t layers = model_.config().layers;
  if (const EntropyRegularizer* regularizer = model_.regularizer()) {
    regularizer->WriteGradients(context_, model_.params());
  }
  buckets_.SumPartial(model_.tp(), {0, model_.transformer().FlatRange(0).first});
  buckets_.SumPartial(model_.tp(), {model_.transformer().FlatRange(layers - 1).second,
                                    model_.params().flat_size()});
  buckets_.Finish(context_);
}

// Means over ranks: of the loss this rank has its share already, of penalty and gates its own mean.
void Trainer::SumScalars(StepReport& report) {
  EntropyRegularizer* regularizer = model_.regularizer();
  std::vector<double> scalars = {report.loss};
  if (regularizer != nullptr) {
    const double ranks = mesh_.dp().size();
    for (const double measured : regularizer->Measured()) scalars.push_back(measured / ranks);
  }
  mesh_.dp().AllReduce(ViewOf(scalars), ReduceOp::kSum, "loss");
  report.loss = scalars[0];
  report.total = report.loss;
  if (regularizer == nullptr) return;
  regularizer->SetMeasured({scalars.begin() + 1, scalars.end()});
  report.penalty = regularizer->penalty();
  mesh_.tp().AllReduce({&report.penalty, DType::kF64, {1}}, ReduceOp::kSum, "penalty");
  report.total += regularizer->strength() * report.penalty;
}

// The lowest rank that found a place.
std::string Trainer::FirstNonFiniteOfAll(const std::string& mine) {
  const absl::Status found = mine.empty() ? absl::OkStatus() : absl::DataLossError(mine);
  return std::string(mesh_.world().Agree(found, "place of what is not finite").message());
}

void Trainer::Finish(Activations& activations, StepReport& report) {
  ++counters_.step;
  counters_.tokens += config_.train.global_batch * model_.config().context;
  counters_.updates = optimizer_.updates();
  if (!report.applied) {
    ++counters_.bad_steps;
    ++counters_.bad_steps_in_a_row;
    report.first_non_finite = FirstNonFiniteOfAll(FirstNonFinite(context_, model_, activations));
    return;
  }
  counters_.bad_steps_in_a_row = 0;
  if (model_.regularizer() != nullptr) {
    model_.regularizer()->EndStep(report.entropy);
    counters_.has_previous_entropy = true;
  }
}

void Trainer::GatherReport(StepReport& report) {
  report.entropy = GatherHeads(report.entropy, mesh_.tp());
  if (report.applied) counters_.head_entropy = report.entropy.Means();
  const EntropyRegularizer* regularizer = model_.regularizer();
  if (regularizer == nullptr) return;
  const int64_t layers = model_.config().layers;
  report.threshold = GatherHeads(regularizer->Thresholds(context_, model_.params()), mesh_.tp());
  report.gate = GatherHeads(
      TableOf(layers, HeadsHere(), [&](int64_t l, int64_t h) { return regularizer->Gate(l, h); }),
      mesh_.tp());
}

absl::StatusOr<Evaluation> Trainer::Validate(const TokenDataset& data, int64_t max_batches) {
  return Evaluate(context_, model_, arena_, data, config_.micro_batch(mesh_.dp().size()),
                  max_batches, &mesh_);
}

}  // namespace entrain
