#include "launcher/trainer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "launcher/entropy_over_ranks.h"
#include "model/non_finite.h"
#include "runtime/kernels/entropy_moments.h"
#include "runtime/kernels/reduce.h"
#include "runtime/tensor/tensor_copy.h"

namespace entrain {
namespace {

AdamWHyperparameters Hyperparameters(const OptimizerSection& optimizer) {
  return {.beta1 = optimizer.beta1,
          .beta2 = optimizer.beta2,
          .eps = optimizer.eps,
          .weight_decay = optimizer.weight_decay,
          .clip = optimizer.clip};
}

GradientBuckets::Options BucketOptions(const TrainConfig& config, const AdamWOptimizer& optimizer) {
  GradientBuckets::Options options{
      .bucket_bytes = static_cast<int64_t>(config.parallel.bucket_mb * 1e6),
      .wire = config.wire_dtype()};
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

}  // namespace

Trainer::Trainer(const TrainConfig& config, Context& context, const Mesh& mesh, Model& model,
                 const TokenDataset& data)
    : config_(config),
      context_(context),
      mesh_(mesh),
      model_(model),
      data_(data),
      optimizer_(model.params(), Hyperparameters(config.optimizer), mesh.device_dp(),
                 static_cast<int>(config.parallel.zero)),
      buckets_(model.params(), mesh.device_dp(), BucketOptions(config, optimizer_)),
      arena_(context, TrainerBytes(config, mesh.dp().size(), context.device(), model)),
      staged_(context.device(), config.accumulation(mesh.dp().size()) * 2 *
                                    config.micro_batch(mesh.dp().size()) * config.model.context *
                                    SizeOf(DType::kI32)),
      clock_(context, mesh) {
  if (ChooseStepGraph(config, context.device(), mesh.world().size()).used) graph_.emplace();
  counters_.seed = config.train.seed;
  counters_.global_batch = config.train.global_batch;
  counters_.shuffle = config.data.shuffle;
  counters_.data_fingerprint = data.fingerprint();
  counters_.precision = kPrecisionNames.Name(config.train.precision);
}

void Trainer::Start() {
  staging_.reset();
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
  clock_.EnterOnHost(&StepTimes::data);
  if (!staging_) staging_ = StageBatches();
  clock_.LeaveOnHost();
  return *staging_;
}

absl::Status Trainer::StageBatches() {
  auto* to = static_cast<int32_t*>(staged_.data());
  for (int64_t m = 0; m < micro_steps(); ++m) {
    ASSIGN_OR_RETURN(const Batch batch, loader_->Next());
    to = std::copy(batch.inputs.begin(), batch.inputs.end(), to);
    to = std::copy(batch.targets.begin(), batch.targets.end(), to);
  }
  return absl::OkStatus();
}

// ---- a step ----

StepReport Trainer::Step() {
  Arena::Scope scope(arena_);
  StepMemory memory = LayOutStep(arena_, config_, mesh_.dp().size(), context_.device(), model_);
  Begin(memory);
  if (graph_) {
    // The host decides nothing else: the ops of any two steps with one strength of zero or not are the same.
    const EntropyRegularizer* regularizer = model_.regularizer();
    const bool regularized = regularizer != nullptr && regularizer->strength() > 0.0;
    const bool has_previous = regularizer != nullptr && regularizer->has_previous();
    graph_->Run(context_, (regularized ? 1 : 0) + (has_previous ? 2 : 0), [&] { Issue(memory); });
  } else {
    Issue(memory);
  }
  // While a GPU works; a CPU is done.
  if (context_.device() != DeviceKind::kCpu) staging_ = StageBatches();
  return End(memory);
}

void Trainer::Begin(const StepMemory& memory) {
  CHECK(staging_ && staging_->ok()) << "a step without its batches";
  staging_.reset();
  CopyToDevice(context_, staged_.data(), memory.tokens.raw(), staged_.bytes());
  optimizer_.BeginStep(context_, learning_rate());
  if (EntropyRegularizer* regularizer = model_.regularizer()) {
    regularizer->BeginStep(context_, counters_.step, micro_steps(), mesh_.dp().size());
  }
}

void Trainer::Issue(StepMemory& memory) {
  clock_.BeginOps();
  clock_.Enter(&StepTimes::forward);
  model_.transformer().BeginStep(context_, true);
  buckets_.BeginStep();
  for (int64_t m = 0; m < micro_steps(); ++m) MicroStep(m, memory);
  clock_.Enter(&StepTimes::backward);
  SumGradients();
  clock_.Enter(&StepTimes::optimizer);
  Judge(memory);
  optimizer_.Update(context_);
  clock_.Enter(nullptr);
}

Transformer::Tokens Trainer::TokensOf(int64_t index, const StepMemory& memory) const {
  const Activations& a = memory.activations;
  const int64_t rows = a.rows();
  return {
      .inputs =
          memory.tokens.Slice(2 * index * rows, rows).Reshape({a.layout.batch, a.layout.positions}),
      .targets = memory.tokens.Slice((2 * index + 1) * rows, rows)};
}

void Trainer::MicroStep(int64_t index, StepMemory& memory) {
  clock_.Enter(&StepTimes::forward);
  const bool first = index == 0;
  const bool last = index + 1 == micro_steps();
  const Transformer::Tokens tokens = TokensOf(index, memory);
  const double share = 1.0 / static_cast<double>(micro_steps() * mesh_.dp().size());
  const Transformer& transformer = model_.transformer();
  Activations& a = memory.activations;
  transformer.RunBlocks(context_, tokens.inputs, a);

  // The entropies of the whole micro-step are known before any of them is regularised: summed over ranks, so that all see
  // the same E, δ and gates. They travel while the head computes.
  clock_.Enter(&StepTimes::entropy);
  EntropyMoments(context_, a.entropy, a.moments);
  MomentsOverRanks moments(a.moments, mesh_.device_dp());
  clock_.Enter(&StepTimes::forward);
  transformer.LossAndGradient(context_, tokens, share, !first, a);
  AddMean(
      context_,
      {.x = a.head.loss, .scale = share, .out = memory.verdict.Slice(0, 1), .accumulate = !first});
  clock_.Enter(&StepTimes::entropy);
  moments.Wait();
  if (EntropyRegularizer* regularizer = model_.regularizer()) {
    regularizer->Measure(context_, model_.params(),
                         {.entropy = a.entropy,
                          .sums = a.moments.sums,
                          .rows = a.rows() * mesh_.dp().size(),
                          .first = first});
  }
  if (first && !last) CopyMoments(context_, a.moments, memory.moments);
  if (!first) JoinMoments(context_, a.moments, memory.moments);
  clock_.Enter(&StepTimes::backward);
  transformer.Backward(context_, tokens, EntropyGradientOf(index), !first, a, [&](int64_t layer) {
    if (last) LayerComplete(layer);
  });
}

Transformer::EntropyGradient Trainer::EntropyGradientOf(int64_t index) {
  EntropyRegularizer* regularizer = model_.regularizer();
  if (regularizer == nullptr) return {};
  return [this, regularizer, index](int64_t layer, const TensorView& entropy,
                                    const TensorView& buffer) {
    return regularizer->RowGradient(context_, model_.params(), layer, entropy, buffer, index == 0);
  };
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
  buckets_.SumPartial(model_.tp(), {0, model_.transformer().FlatRange(0).first});
  buckets_.SumPartial(model_.tp(), {model_.transformer().FlatRange(layers - 1).second,
                                    model_.params().flat_size()});
  buckets_.Finish(context_);
}

void Trainer::Judge(const StepMemory& memory) {
  EntropyRegularizer* regularizer = model_.regularizer();
  const TensorView loss = memory.verdict.Slice(0, 1);
  TensorView finite = loss;
  // A rank's loss is its share of the mean already.
  mesh_.device_dp().AllReduce(loss, ReduceOp::kSum, "loss");
  if (regularizer != nullptr) {
    const TensorView penalty = memory.verdict.Slice(1, 1);
    mesh_.device_dp().AllReduce(regularizer->measured(), ReduceOp::kSum, "penalty and gates");
    CopyTensor(context_, regularizer->measured().Slice(0, 1), penalty);
    model_.tp().Sum(penalty, "penalty");
    finite = memory.verdict;
  }
  optimizer_.MeasureGradient(context_, model_.tp(), finite);
  if (regularizer != nullptr) {
    regularizer->KeepMeans(context_, memory.moments.sums,
                           memory.activations.rows() * mesh_.dp().size() * micro_steps(),
                           optimizer_.gradient_scale());
  }
}

// The lowest rank that found a place.
std::string Trainer::FirstNonFiniteOfAll(const std::string& mine) {
  const absl::Status found = mine.empty() ? absl::OkStatus() : absl::DataLossError(mine);
  return std::string(mesh_.world().Agree(found, "place of what is not finite").message());
}

StepReport Trainer::End(const StepMemory& memory) {
  StepReport report;
  const std::vector<double> verdict = ToHost<double>(context_, memory.verdict);
  report.lr = learning_rate();
  report.loss = report.total = verdict[0];
  report.grad_norm = ToHost<double>(context_, optimizer_.gradient_norm()).front();
  report.applied = !std::isnan(ToHost<float>(context_, optimizer_.gradient_scale()).front());
  optimizer_.EndStep(report.applied);
  if (EntropyRegularizer* regularizer = model_.regularizer()) {
    regularizer->EndStep(context_, report.applied);
    counters_.has_previous_entropy = regularizer->has_previous();
    report.penalty = regularizer->PenaltyOf(verdict[1]);
    report.total += regularizer->strength() * report.penalty;
  }
  ++counters_.step;
  counters_.tokens += config_.train.global_batch * model_.config().context;
  counters_.updates = optimizer_.updates();
  counters_.bad_steps_in_a_row = report.applied ? 0 : counters_.bad_steps_in_a_row + 1;
  if (!report.applied) {
    ++counters_.bad_steps;
    report.first_non_finite =
        FirstNonFiniteOfAll(FirstNonFinite(context_, model_, memory.activations));
  }
  GatherReport(memory, report);
  report.times = clock_.Take();
  return report;
}

void Trainer::GatherReport(const StepMemory& memory, StepReport& report) {
  const int64_t rows = memory.activations.rows() * mesh_.dp().size() * micro_steps();
  report.entropy = GatherHeads(EntropyStatistics::Read(context_, memory.moments, rows), mesh_.tp());
  if (report.applied) counters_.head_entropy = report.entropy.Means();
  const EntropyRegularizer* regularizer = model_.regularizer();
  if (regularizer == nullptr) return;
  const int64_t layers = model_.config().layers;
  report.threshold = GatherHeads(regularizer->Thresholds(context_, model_.params()), mesh_.tp());
  report.gate = GatherHeads(TableOf(layers, regularizer->heads(),
                                    [&](int64_t l, int64_t h) { return regularizer->Gate(l, h); }),
                            mesh_.tp());
}

absl::StatusOr<Evaluation> Trainer::Validate(const TokenDataset& data, int64_t max_batches) {
  return Evaluate(context_, model_, arena_, data, config_.micro_batch(mesh_.dp().size()),
                  max_batches, &mesh_);
}

}  // namespace entrain
