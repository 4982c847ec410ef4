#include "launcher/trainer.h"

#include <cmath>

#include "launcher/lr_schedule.h"
#include "model/non_finite.h"

namespace entrain {
namespace {

// Code, shared libraries, the matrix products' work space: measured (tests/bench/RESULTS.md).
constexpr int64_t kProgramBytes = int64_t{32} << 20;

ActivationLayout TrainingLayout(const TrainConfig& config) {
  return {.batch = config.micro_batch(),
          .positions = config.model.context,
          .compute = config.compute_dtype(),
          .training = true,
          .recompute = config.train.recompute};
}

int64_t ActivationBytes(const TrainConfig& config, const Model& model) {
  Arena measure;
  model.transformer().AllocateActivations(measure, TrainingLayout(config));
  return measure.peak_bytes();
}

AdamWHyperparameters Hyperparameters(const OptimizerSection& optimizer) {
  return {.beta1 = optimizer.beta1,
          .beta2 = optimizer.beta2,
          .eps = optimizer.eps,
          .weight_decay = optimizer.weight_decay,
          .clip = optimizer.clip};
}

}  // namespace

MemoryPlan PlanMemory(const TrainConfig& config, Model& model) {
  return {.parameters = model.ParameterBytes(config.compute_dtype(), true),
          .optimizer = AdamWOptimizer::BytesNeeded(model.params()),
          .factors = model.FactorBytes(config.compute_dtype()),
          .activations = ActivationBytes(config, model),
          .program = kProgramBytes};
}

Trainer::Trainer(const TrainConfig& config, Context& context, Model& model,
                 const TokenDataset& data)
    : config_(config),
      context_(context),
      model_(model),
      data_(data),
      optimizer_(model.params(), Hyperparameters(config.optimizer)),
      arena_(ActivationBytes(config, model)) {
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
  const BatchSampler sampler(config_.train.seed, data_.num_sequences(), config_.train.global_batch,
                             config_.data.shuffle);
  loader_ = std::make_unique<BatchLoader>(data_, sampler, counters_.step,
                                          config_.train.global_batch, config_.micro_batch());
}

absl::StatusOr<StepReport> Trainer::Step() {
  Arena::Scope scope(arena_);
  Activations activations =
      model_.transformer().AllocateActivations(arena_, TrainingLayout(config_));
  ASSIGN_OR_RETURN(StepReport report, Accumulate(activations));
  report.lr = LearningRate(config_.optimizer, config_.train.steps, counters_.step);
  report.grad_norm = optimizer_.GradientNorm(context_);
  report.applied = std::isfinite(report.total) && std::isfinite(report.grad_norm);
  if (report.applied) optimizer_.Update(context_, report.lr, report.grad_norm);
  Finish(activations, report);
  return report;
}

absl::StatusOr<StepReport> Trainer::Accumulate(Activations& activations) {
  StepReport report;
  report.entropy = EntropyStatistics(model_.config().layers, model_.config().heads);
  EntropyRegularizer* regularizer = model_.regularizer();
  model_.transformer().BeginStep(context_, true);
  if (regularizer != nullptr) regularizer->BeginStep(counters_.step, config_.accumulation());
  for (int64_t m = 0; m < config_.accumulation(); ++m) {
    RETURN_IF_ERROR(MicroStep(m > 0, activations, report));
  }
  model_.transformer().EndStep(context_);
  report.penalty = regularizer != nullptr ? regularizer->penalty() : 0.0;
  report.total = report.loss;
  if (regularizer != nullptr) report.total += regularizer->strength() * report.penalty;
  return report;
}

absl::Status Trainer::MicroStep(bool accumulate, Activations& activations, StepReport& report) {
  ASSIGN_OR_RETURN(Batch batch, loader_->Next());
  const Transformer::Tokens tokens = TokensOf(batch);
  const double share = 1.0 / static_cast<double>(config_.accumulation());
  report.loss +=
      share * model_.transformer().Forward(context_, tokens, share, accumulate, activations);

  // The entropies of the whole micro-batch are known here, before any of them is regularised.
  EntropyStatistics statistics(model_.config().layers, model_.config().heads);
  statistics.Add(context_, activations.entropy);
  report.entropy.Merge(statistics);
  EntropyRegularizer* regularizer = model_.regularizer();
  Transformer::EntropyGradient gradient;
  if (regularizer != nullptr) {
    regularizer->Measure(context_, model_.params(), activations.entropy, statistics);
    gradient = [&](int64_t layer, const TensorView& entropy, const TensorView& buffer) {
      return regularizer->RowGradient(context_, model_.params(), layer, entropy, buffer);
    };
  }
  model_.transformer().Backward(context_, tokens, gradient, accumulate, activations);
  return absl::OkStatus();
}

void Trainer::Finish(Activations& activations, StepReport& report) {
  ++counters_.step;
  counters_.tokens += config_.train.global_batch * model_.config().context;
  counters_.updates = optimizer_.updates();
  if (!report.applied) {
    ++counters_.bad_steps;
    ++counters_.bad_steps_in_a_row;
    report.first_non_finite = FirstNonFinite(context_, model_, activations);
    return;
  }
  counters_.bad_steps_in_a_row = 0;
  counters_.head_entropy = report.entropy.Means();
  if (model_.regularizer() != nullptr) {
    model_.regularizer()->EndStep(report.entropy);
    counters_.has_previous_entropy = true;
  }
}

absl::StatusOr<Evaluation> Trainer::Validate(const TokenDataset& data, int64_t max_batches) {
  return Evaluate(context_, model_, arena_, data, config_.micro_batch(), max_batches);
}

}  // namespace entrain
