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
#include <functional>
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

  // Memory for what ops read and leave; once, before the first step.
  void Allocate(Arena& arena);

  // ---- a training step: all is judged where the entropies are; the host waits for nothing until it asks ----

  // Its rows come in `micro_steps` parts of each of `ranks` dp ranks, all equal. Gradients of rows and thresholds are a part's
  // share: summed over parts, each is there exactly once.
  void BeginStep(Context& context, int64_t step, int64_t micro_steps, int64_t ranks);
  // One micro-step, between forward and backward: entropy f32 [L, B, H, T], and Σ H of each head over `rows` rows (over every
  // sequence of the micro-step, also those of other ranks). Judges heads, or what is measured of rows. first: of the step.
  struct MicroStep {
    TensorView entropy;
    TensorView sums;  // f64 [L, H, 2], as HeadMoments
    int64_t rows = 0;
    bool first = true;
  };
  void Measure(Context& context, const ParamSet& params, const MicroStep& micro_step);
  // ∂(λ·L_entropy of the step)/∂H for layer's rows: f32 [B, H, T] in `buffer`, or f32 [H] where all rows of a head have the
  // same; an empty view while λ is zero. Thresholds get their gradients here and in Measure. Call once a layer and micro-step.
  TensorView RowGradient(Context& context, const ParamSet& params, int64_t layer,
                         const TensorView& entropy, const TensorView& buffer, bool first);
  // What was measured of this rank's rows and heads in the step, f64 [1 + L·H]: to be summed over dp before it is read. The
  // first is finite exactly when the penalty is.
  const TensorView& measured() const { return measured_; }
  // The step's means, from sums over `rows` rows, become the previous step's (statistics = previous_step), unless unless_nan
  // f32 [1] is NaN.
  void KeepMeans(Context& context, const TensorView& sums, int64_t rows,
                 const TensorView& unless_nan);
  // The host gets to know what was measured, and whether the step was kept.
  void EndStep(Context& context, bool kept);

  // Mean over the step's micro-steps of L_entropy (unscaled), the part of the heads here; after EndStep.
  double penalty() const { return PenaltyOf(on_host_[0]); }
  // The same from a sum that was measured, of the heads of all tp ranks perhaps.
  double PenaltyOf(double measured) const;
  double strength() const { return strength_; }
  // Share of the step's rows (query) or micro-steps (head) with an open gate.
  double Gate(int64_t layer, int64_t head) const;
  // θ of the heads here as they are now, [L][H].
  HeadTable Thresholds(Context& context, const ParamSet& params) const;
  int64_t heads() const { return heads_; }

  // ---- penalty without a gradient over a whole evaluation set: add batches, then ask ----

  void BeginEvaluation(Context& context);
  void AddEvaluation(Context& context, const ParamSet& params, const TensorView& entropy);
  // Σ penalty and number of rows so far, here: to be summed over ranks that each evaluated a part.
  std::vector<double> EvaluationSums(Context& context) const;
  double EvaluationPenalty(Context& context, const ParamSet& params,
                           const EntropyStatistics& statistics,
                           const std::vector<double>& sums) const;

  // Previous step's E [L, H] of the heads here, f32; zero before the first step. A listed piece of training state.
  const TensorView& previous_entropy() const { return previous_entropy_; }
  bool has_previous() const { return has_previous_; }
  void set_has_previous(bool value) { has_previous_ = value; }

 private:
  void PutMaxima(Context& context);
  void MeasureHeads(Context& context, const ParamSet& params, const MicroStep& micro_step);
  int64_t GradientCount() const;
  // [L, H] of what there is of each layer's thresholds.
  TensorView OfThresholds(const std::function<TensorView(ParamId)>& of_layer) const;
  TensorView ThresholdValues(const ParamSet& params) const;
  TensorView ThresholdGradients(const ParamSet& params) const;
  // What the sums in `measured` are of: rows or, by head, one for each micro-step and rank.
  double MeasuredCount() const;
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
  int64_t micro_steps_ = 1;
  int64_t ranks_ = 1;
  int64_t rows_ = 0;              // of a head in a micro-step of this rank
  std::vector<double> on_host_;   // what was measured, [1 + L·H]
  double evaluation_rows_ = 0.0;  // of all heads
  bool has_previous_ = false;
  bool maxima_on_device_ = false;

  // On the device:
  TensorView strength_on_device_;  // f64 [1]
  TensorView row_max_on_device_;   // f64 [T]
  TensorView measured_;            // f64 [1 + L·H]
  TensorView evaluated_;           // f64 [1 + L·H]
  TensorView head_gradients_;      // f32 [L, H]
  TensorView previous_entropy_;    // f32 [L, H]
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_ENTROPY_REGULARIZER_H_
