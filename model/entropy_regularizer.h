// EntropyRegularizer: where entropy becomes a penalty, and the penalty a gradient. One learnable threshold θ a head.
//
//   head:  δ = E^{l,h} − θ^{l,h}·E_max, E the mean over the whole (micro-)batch;  query: the same for each row
//   penalty δ² where |δ| > γ·E_max, else 0;  L_entropy = mean over rows, heads, layers;  L_total = L_CE + λ·L_entropy
//
// E_max = log T, or `causal`: log i for row i and (log T!)/T for a head. Source: EGA (arXiv 2501.03489), Algorithm 1.
//
// Heads are cut over tp: a rank judges and regularises its own; heads are counted from its first. Its penalty is its heads'
// share of the mean over all heads: summed over tp, the whole.
#ifndef ENTRAIN_MODEL_ENTROPY_REGULARIZER_H_
#define ENTRAIN_MODEL_ENTROPY_REGULARIZER_H_

#include <cstdint>
#include <vector>

#include "model/entropy_statistics.h"
#include "model/model_config.h"
#include "parallel/param_set.h"
#include "parallel/tensor_parallel.h"
#include "runtime/kernels/entropy_penalty.h"
#include "runtime/tensor/arena.h"

namespace entrain {

class EntropyRegularizer {
 public:
  // Declares `transformer.h.{l}.attn.entropy_threshold` [H] for every layer. `model.entropy_regularizer` must be set.
  EntropyRegularizer(const ModelConfig& model, ParamSet& params, const TensorParallel& tp = {});

  // λ of a step (from 0): 0 before start_step, then linear over warmup_steps, then `strength`.
  double StrengthAt(int64_t step) const;

  // A training step, whose rows come in `parts` equal parts: the micro-steps of every dp rank. Gradients of rows and
  // thresholds are this part's share: summed over parts, each is there exactly once.
  void BeginStep(int64_t step, int64_t parts);
  // Memory for what the backward reads; once, before the first step.
  void Allocate(Arena& arena);

  // One micro-step, between forward and backward: entropy f32 [L, B, H, T] and its statistics (over every sequence of the
  // micro-step, also those of other ranks). Sets the gates and δ that RowGradient uses.
  void Measure(Context& context, const ParamSet& params, const TensorView& entropy,
               const EntropyStatistics& statistics);
  // ∂(λ·L_entropy of the step)/∂H for layer's rows: f32 [B, H, T] in `buffer`, or f32 [H] where all rows of a head have the
  // same; an empty view when it is zero throughout. The thresholds' gradients are summed on the way. Call once a layer and
  // micro-step.
  TensorView RowGradient(Context& context, const ParamSet& params, int64_t layer,
                         const TensorView& entropy, const TensorView& buffer);
  // Puts the thresholds' gradients, of the micro-steps since BeginStep, into the parameters'.
  void WriteGradients(Context& context, const ParamSet& params) const;
  // End of the step: `statistics` of the complete batch become the previous step's (statistics = previous_step).
  void EndStep(const EntropyStatistics& statistics);

  // Mean over the step's micro-steps of L_entropy (unscaled), the part of the heads here.
  double penalty() const {
    return penalty_sum_ / static_cast<double>(micro_steps_ > 0 ? micro_steps_ : 1);
  }
  // The step's penalty and gates over this rank's rows and heads, [1 + L·H] f64, and back: to be averaged over dp.
  std::vector<double> Measured() const;
  void SetMeasured(const std::vector<double>& measured);
  double strength() const { return strength_; }
  // Share of the step's rows (query) or micro-steps (head) with an open gate.
  double Gate(int64_t layer, int64_t head) const;
  // θ of the heads here as they are now, [L][H].
  HeadTable Thresholds(Context& context, const ParamSet& params) const;
  int64_t heads() const { return heads_; }

  // Penalty without a gradient over a whole evaluation set: add batches, then ask.
  void BeginEvaluation();
  void AddEvaluation(Context& context, const ParamSet& params, const TensorView& entropy);
  double EvaluationPenalty(Context& context, const ParamSet& params,
                           const EntropyStatistics& statistics) const;
  // Penalty and number of rows so far, and back: to be summed over ranks that each evaluated a part.
  std::vector<double> EvaluationSums() const { return {evaluation_sum_, evaluation_rows_}; }
  void SetEvaluationSums(const std::vector<double>& sums) {
    evaluation_sum_ = sums[0];
    evaluation_rows_ = sums[1];
  }

  // Previous step's E [L·H] of the heads here, f32; zero before the first step. A listed piece of training state.
  std::vector<float>& previous_entropy() { return previous_entropy_; }
  bool has_previous() const { return has_previous_; }
  void set_has_previous(bool value) { has_previous_ = value; }

 private:
  struct HeadState {
    double delta = 0.0;
    double gate = 0.0;
  };
  HeadState JudgeHead(double mean_entropy, double threshold) const;
  void MeasureHeads(Context& context, const ParamSet& params, const EntropyStatistics& statistics);
  void MeasureRows(Context& context, const ParamSet& params, const TensorView& entropy);
  // Query granularity: the sums of one layer's heads and, wanted, scale · δ · gate of its rows. entropy f32 [B, H, T].
  std::vector<HeadPenalty> PenalizeRows(Context& context, const ParamSet& params, int64_t layer,
                                        const TensorView& entropy, const TensorView& gradient = {},
                                        double scale = 0.0) const;
  // ∂(λ·L_entropy)/∂H of a row is this times δ·gate; rows: of a head in this part.
  double GradientScale(int64_t rows) const;
  // Head granularity: ∂L/∂H of every head, the same for all its rows, into head_gradients_.
  void PutHeadGradients(Context& context, int64_t rows);
  TensorView HeadGradient(int64_t layer, int64_t rows);
  void AddThresholdGradient(int64_t layer, int64_t head, double gradient);
  // Where the thresholds lie in the flat order: side by side, each padded.
  ElementRange FlatRange(const ParamSet& params) const;
  size_t Index(int64_t layer, int64_t head) const {
    return static_cast<size_t>(layer * heads_ + head);
  }

  EntropyRegularizerConfig config_;
  int64_t layers_;
  int64_t heads_;                // here
  int64_t all_heads_;            // of all layers and ranks
  std::vector<double> row_max_;  // E_max of row i
  double head_max_;              // E_max of a head
  std::vector<ParamId> thresholds_;

  double strength_ = 0.0;
  int64_t parts_ = 1;
  int64_t micro_steps_ = 0;
  double penalty_sum_ = 0.0;
  std::vector<double> gate_sum_;           // [L·H]
  std::vector<HeadState> heads_state_;     // [L·H], of the micro-step
  std::vector<float> threshold_gradient_;  // [L·H]
  TensorView head_gradients_;              // f32 [L, H], on the device
  double evaluation_sum_ = 0.0;
  double evaluation_rows_ = 0.0;
  std::vector<float> previous_entropy_;
  bool has_previous_ = false;
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_ENTROPY_REGULARIZER_H_
