// Evaluate: loss, penalty and entropies of a model over a token set, nothing of it changed.
#ifndef ENTRAIN_LAUNCHER_EVALUATOR_H_
#define ENTRAIN_LAUNCHER_EVALUATOR_H_

#include <cstdint>

#include "model/model.h"
#include "parallel/mesh.h"
#include "runtime/data/batch_loader.h"
#include "runtime/data/token_file.h"

namespace entrain {

struct Evaluation {
  double loss = 0.0;  // mean over all tokens, nats
  double penalty =
      0.0;  // L_entropy, of the statistics over all tokens: it does not depend on the batch size
  double total = 0.0;  // loss + λ·penalty with the full λ
  int64_t tokens = 0;
  EntropyStatistics entropy;
};

// Sequences in file order, `batch` at a time (the last batch may be smaller), max_batches of them a dp rank (0: all).
// Activations are laid out in `arena`, which must hold EvaluationBytes.
// With a mesh its dp ranks share the work, batch after batch in turn, and all ranks return the same result; an error on one is
// returned by all.
absl::StatusOr<Evaluation> Evaluate(Context& context, Model& model, Arena& arena,
                                    const TokenDataset& data, int64_t batch, int64_t max_batches,
                                    const Mesh* mesh = nullptr);

// What an evaluation of so many sequences at a time works in, computed in `compute` on the device.
int64_t EvaluationBytes(const Model& model, DType compute, DeviceKind device, int64_t batch);

// A batch where the transformer reads it.
Transformer::Tokens PutTokens(Context& context, const Model& model, const Batch& batch,
                              const Activations& activations);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_EVALUATOR_H_
