#include "launcher/evaluator.h"

#include <algorithm>

#include "launcher/entropy_over_ranks.h"

namespace entrain {
namespace {

ActivationLayout EvaluationLayout(const Model& model, DType compute, DeviceKind device,
                                  int64_t batch) {
  return {.batch = batch,
          .positions = model.config().context,
          .compute = compute,
          .logits = {.rows = Head::ChunkRows(device)}};
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

Transformer::Tokens PutTokens(Context& context, const Model& model, const Batch& batch,
                              const Activations& activations) {
  CHECK_EQ(static_cast<int64_t>(batch.inputs.size()), activations.rows());
  return model.transformer().PutTokens(context, batch.inputs.data(), batch.targets.data(),
                                       activations);
}

int64_t EvaluationBytes(const Model& model, DType compute, DeviceKind device, int64_t batch) {
  Arena measure;
  model.transformer().AllocateActivations(measure, EvaluationLayout(model, compute, device, batch));
  return measure.peak_bytes();
}

namespace {

// Which batches are this rank's: the first, and every so many after it.
struct Turns {
  int64_t sequences = 0;  // of all ranks
  int64_t batch = 1;
  int rank = 0;
  int ranks = 1;
};

// Loss as this rank's share of the mean over all sequences, entropies of its own.
absl::Status EvaluateTurns(Context& context, Model& model, Arena& arena, const TokenDataset& data,
                           const Turns& turns, const Mesh* mesh, Evaluation* result) {
  EntropyRegularizer* regularizer = model.regularizer();
  for (int64_t first = turns.rank * turns.batch; first < turns.sequences;
       first += turns.ranks * turns.batch) {
    const int64_t count = std::min(turns.batch, turns.sequences - first);
    absl::StatusOr<Batch> tokens = ReadBatch(data, first, count);
    // tp ranks compute together: none may go on alone.
    if (mesh != nullptr) {
      RETURN_IF_ERROR(mesh->tp().Agree(tokens.status(), "reading validation data"));
    }
    RETURN_IF_ERROR(tokens.status());
    Arena::Scope scope(arena);
    Activations activations = model.transformer().AllocateActivations(
        arena, EvaluationLayout(model, model.compute_dtype(), context.device(), count));
    model.transformer().Loss(context, PutTokens(context, model, *tokens, activations), activations);
    const double loss = model.transformer().MeanLoss(context, activations);
    result->loss += loss * static_cast<double>(count) / static_cast<double>(turns.sequences);
    EntropyMoments(context, activations.entropy, activations.moments);
    result->entropy.Merge(
        EntropyStatistics::Read(context, activations.moments, activations.rows()));
    if (regularizer != nullptr) {
      regularizer->AddEvaluation(context, model.params(), activations.entropy);
    }
  }
  return absl::OkStatus();
}

// `penalty`: the regulariser's sums, of this rank and then of all.
void SumOverDp(Communicator& dp, std::vector<double>* penalty, Evaluation* result) {
  std::vector<double> sums = *penalty;
  sums.push_back(result->loss);
  dp.AllReduce({sums.data(), DType::kF64, {static_cast<int64_t>(sums.size())}}, ReduceOp::kSum,
               "validation loss");
  result->loss = sums.back();
  sums.pop_back();
  *penalty = sums;
  result->entropy = SumOverRanks(result->entropy, dp);
}

// Every tp rank has the penalty and the entropies of its own heads.
void JoinHeads(Communicator& tp, Evaluation* result) {
  tp.AllReduce({&result->penalty, DType::kF64, {1}}, ReduceOp::kSum, "validation penalty");
  result->entropy = GatherHeads(result->entropy, tp);
}

}  // namespace

absl::StatusOr<Evaluation> Evaluate(Context& context, Model& model, Arena& arena,
                                    const TokenDataset& data, int64_t batch, int64_t max_batches,
                                    const Mesh* mesh) {
  Evaluation result;
  result.entropy = EntropyStatistics(model.config().layers, model.tp().Share(model.config().heads));
  EntropyRegularizer* regularizer = model.regularizer();
  if (regularizer != nullptr) regularizer->BeginEvaluation(context);
  model.transformer().BeginStep(context, false);
  Turns turns{.sequences = data.num_sequences(), .batch = batch};
  if (mesh != nullptr) {
    turns.rank = mesh->dp().rank();
    turns.ranks = mesh->dp().size();
  }
  if (max_batches > 0) {
    turns.sequences = std::min(turns.sequences, max_batches * batch * turns.ranks);
  }
  absl::Status status = EvaluateTurns(context, model, arena, data, turns, mesh, &result);
  if (mesh != nullptr) status = mesh->world().Agree(status, "validation");
  RETURN_IF_ERROR(status);
  std::vector<double> penalty;
  if (regularizer != nullptr) penalty = regularizer->EvaluationSums(context);
  if (mesh != nullptr) SumOverDp(mesh->dp(), &penalty, &result);
  result.tokens = turns.sequences * data.sequence_length();
  if (regularizer != nullptr) {
    result.penalty =
        regularizer->EvaluationPenalty(context, model.params(), result.entropy, penalty);
  }
  if (mesh != nullptr) JoinHeads(mesh->tp(), &result);
  result.total = result.loss;
  if (regularizer != nullptr) {
    result.total += model.config().entropy_regularizer->strength * result.penalty;
  }
  return result;
}

}  // namespace entrain
