// Trainer: the training step and what it works on.
#ifndef ENTRAIN_LAUNCHER_TRAINER_H_
#define ENTRAIN_LAUNCHER_TRAINER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/evaluator.h"
#include "launcher/lr_schedule.h"
#include "launcher/step_graph.h"
#include "launcher/step_memory.h"
#include "launcher/step_times.h"
#include "launcher/train_config.h"
#include "launcher/train_state.h"
#include "model/model.h"
#include "parallel/adamw_optimizer.h"
#include "parallel/gradient_buckets.h"
#include "parallel/mesh.h"
#include "runtime/data/batch_loader.h"
#include "runtime/device/op_graph.h"
#include "runtime/device/pinned_buffer.h"

namespace entrain {

struct StepReport {
  double loss = 0.0;     // mean over the global batch, nats
  double penalty = 0.0;  // L_entropy, before λ
  double total = 0.0;    // loss + λ·penalty
  double grad_norm = 0.0;
  double lr = 0.0;
  bool applied = true;           // false: something was not finite and the update was left out
  std::string first_non_finite;  // where, when not applied
  EntropyStatistics entropy;     // of all heads
  // Of all heads, empty without a regulariser; thresholds as of after the update.
  HeadTable threshold;
  HeadTable gate;
  StepTimes times;  // of this rank, with the reading of its batches
};

class Trainer {
 public:
  // Takes the memory; values start from the seed. All arguments must outlive the trainer but `config`, which is copied.
  Trainer(const TrainConfig& config, Context& context, const Mesh& mesh, Model& model,
          const TokenDataset& data);

  // To be called once before the first Step: after values and counters were loaded, or for a fresh start.
  void Start();

  // Has this rank's sequences of the next step. An error is one of the data, and of this rank alone: ranks must agree that
  // all have theirs before any calls Step.
  absl::Status ReadBatches();
  // One optimizer step over the global batch: the same report on every rank, to the bit. On a GPU the host waits at its end
  // alone; while the device works, the next step's sequences are read.
  StepReport Step();

  // Mean loss over a validation set; training state is left as it is.
  absl::StatusOr<Evaluation> Validate(const TokenDataset& data, int64_t max_batches);

  TrainCounters& counters() { return counters_; }
  const TrainCounters& counters() const { return counters_; }
  Model& model() { return model_; }
  AdamWOptimizer& optimizer() { return optimizer_; }

 private:
  int64_t micro_steps() const { return config_.accumulation(mesh_.dp().size()); }
  // Of the step that is under way.
  double learning_rate() const {
    return LearningRate(config_.optimizer, config_.train.steps, counters_.step);
  }
  // The next step's batches from the loader into staged_.
  absl::Status StageBatches();

  // ---- a step: what the host decides, the ops, what the host gets to know ----
  void Begin(const StepMemory& memory);
  void Issue(StepMemory& memory);
  StepReport End(const StepMemory& memory);

  void MicroStep(int64_t index, StepMemory& memory);
  Transformer::Tokens TokensOf(int64_t index, const StepMemory& memory) const;
  Transformer::EntropyGradient EntropyGradientOf(int64_t index);
  // Loss and penalty of all ranks, the gradient's norm, and what follows from them.
  void Judge(const StepMemory& memory);

  // ---- over ranks ----
  // A layer's gradients are those of the whole step on this rank: their sum over ranks may begin.
  void LayerComplete(int64_t layer);
  void SumGradients();
  // What reports show of all heads, from those of every tp rank.
  void GatherReport(const StepMemory& memory, StepReport& report);
  std::string FirstNonFiniteOfAll(const std::string& mine);

  TrainConfig config_;
  Context& context_;
  const Mesh& mesh_;
  Model& model_;
  const TokenDataset& data_;
  AdamWOptimizer optimizer_;
  GradientBuckets buckets_;
  Arena arena_;
  std::unique_ptr<BatchLoader> loader_;
  PinnedBuffer staged_;                  // tokens of the next step, as StepMemory has them
  std::optional<absl::Status> staging_;  // what came of it; nothing before it was tried
  std::optional<OpGraph> graph_;
  TrainCounters counters_;
  StepClock clock_;
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_TRAINER_H_
