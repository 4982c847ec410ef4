#include "launcher/evaluator.h"

#include <algorithm>

namespace entrain {
namespace {

ActivationLayout EvaluationLayout(const Model& model, int64_t batch) {
  return {.batch = batch, .positions = model.config().context, .compute = model.compute_dtype()};
}

absl::StatusOr<Batch> ReadBatch(const TokenDataset& data, int64_t first, int64_t count) {
  const int64_t length = data.sequence_length();
  Batch batch;
  batch.batch_size = count;
  batch.sequence_length = length;
  batch.inputs.resize(static_cast<size_t>(count * length));
  batch.targets.resize(batch.inputs.size());
  for (int64_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(data.Read(first + i, &batch.inputs[static_cast<size_t>(i * length)],
                              &batch.targets[static_cast<size_t>(i * length)]));
  }
  return batch;
}

}  // namespace

Transformer::Tokens TokensOf(Batch& batch) {
  return {
      .inputs = {batch.inputs.data(), DType::kI32, {batch.batch_size, batch.sequence_length}},
      .targets = {batch.targets.data(), DType::kI32, {batch.batch_size * batch.sequence_length}}};
}

int64_t EvaluationBytes(const Model& model, int64_t batch) {
  Arena measure;
  model.transformer().AllocateActivations(measure, EvaluationLayout(model, batch));
  return measure.peak_bytes();
}

absl::StatusOr<Evaluation> Evaluate(Context& context, Model& model, Arena& arena,
                                    const TokenDataset& data, int64_t batch, int64_t max_batches) {
  Evaluation result;
  result.entropy = EntropyStatistics(model.config().layers, model.config().heads);
  EntropyRegularizer* regularizer = model.regularizer();
  if (regularizer != nullptr) regularizer->BeginEvaluation();
  model.transformer().BeginStep(context, false);
  int64_t sequences = data.num_sequences();
  if (max_batches > 0) sequences = std::min(sequences, max_batches * batch);
  for (int64_t first = 0; first < sequences; first += batch) {
    const int64_t count = std::min(batch, sequences - first);
    ASSIGN_OR_RETURN(Batch tokens, ReadBatch(data, first, count));
    Arena::Scope scope(arena);
    Activations activations =
        model.transformer().AllocateActivations(arena, EvaluationLayout(model, count));
    const double loss = model.transformer().Loss(context, TokensOf(tokens), activations);
    result.loss += loss * static_cast<double>(count) / static_cast<double>(sequences);
    result.entropy.Add(context, activations.entropy);
    if (regularizer != nullptr) {
      regularizer->AddEvaluation(context, model.params(), activations.entropy);
    }
  }
  result.tokens = sequences * data.sequence_length();
  result.total = result.loss;
  if (regularizer != nullptr) {
    result.penalty = regularizer->EvaluationPenalty(model.params(), result.entropy);
    result.total += model.config().entropy_regularizer->strength * result.penalty;
  }
  return result;
}

}  // namespace entrain
