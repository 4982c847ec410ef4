#include "model/entropy_regularizer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "runtime/base/check.h"
#include "runtime/tensor/tensor_copy.h"

namespace entrain {
namespace {

std::vector<double> RowMaxima(MaxEntropy form, int64_t positions) {
  std::vector<double> maxima(static_cast<size_t>(positions),
                             std::log(static_cast<double>(positions)));
  if (form == MaxEntropy::kCausal) {
    for (int64_t i = 0; i < positions; ++i) {
      maxima[static_cast<size_t>(i)] = std::log(static_cast<double>(i + 1));
    }
  }
  return maxima;
}

// Rows of layer l of a [L, B, H, T] tensor as [B, H, T].
TensorView LayerRows(const TensorView& entropy, int64_t layer) {
  const int64_t rows = entropy.dim(1) * entropy.dim(2);
  return entropy.Rows(layer * rows, rows).Reshape({entropy.dim(1), entropy.dim(2), entropy.dim(3)});
}

}  // namespace

EntropyRegularizer::EntropyRegularizer(const ModelConfig& model, ParamSet& params,
                                       const TensorParallel& tp)
    : config_(*model.entropy_regularizer),
      layers_(model.layers),
      heads_(tp.Share(model.heads)),
      all_heads_(model.layers * model.heads),
      row_max_(RowMaxima(config_.max_entropy, model.context)),
      head_max_(config_.max_entropy == MaxEntropy::kCausal ? MaxCausalMeanEntropy(model.context)
                                                           : row_max_.back()),
      gate_sum_(Index(layers_, 0)),
      heads_state_(Index(layers_, 0)),
      threshold_gradient_(Index(layers_, 0)),
      previous_entropy_(Index(layers_, 0)) {
  for (int64_t l = 0; l < layers_; ++l) {
    thresholds_.push_back(
        params.Add({.name = "transformer.h." + std::to_string(l) + ".attn.entropy_threshold",
                    .scale = static_cast<float>(config_.threshold_init),
                    .shard = ShardSpec::Cut({model.heads}, 0, tp.place())}));
  }
}

void EntropyRegularizer::Allocate(Arena& arena) {
  head_gradients_ = arena.Allocate("entropy gradients of heads", DType::kF32, {layers_, heads_});
}

double EntropyRegularizer::StrengthAt(int64_t step) const {
  if (step < config_.start_step) return 0.0;
  const int64_t done = step - config_.start_step + 1;
  if (done >= config_.warmup_steps) return config_.strength;
  return config_.strength * static_cast<double>(done) / static_cast<double>(config_.warmup_steps);
}

void EntropyRegularizer::BeginStep(int64_t step, int64_t parts) {
  strength_ = StrengthAt(step);
  parts_ = parts;
  micro_steps_ = 0;
  penalty_sum_ = 0.0;
  gate_sum_.assign(gate_sum_.size(), 0.0);
  threshold_gradient_.assign(threshold_gradient_.size(), 0.0F);
}

EntropyRegularizer::HeadState EntropyRegularizer::JudgeHead(double mean_entropy,
                                                            double threshold) const {
  const double delta = mean_entropy - threshold * head_max_;
  return {delta, std::abs(delta) > config_.margin * head_max_ ? 1.0 : 0.0};
}

void EntropyRegularizer::Measure(Context& context, const ParamSet& params,
                                 const TensorView& entropy, const EntropyStatistics& statistics) {
  ++micro_steps_;
  if (config_.granularity == Granularity::kHead) {
    MeasureHeads(context, params, statistics);
    PutHeadGradients(context, entropy.dim(1) * entropy.dim(3));
  } else {
    MeasureRows(context, params, entropy);
  }
}

void EntropyRegularizer::MeasureHeads(Context& context, const ParamSet& params,
                                      const EntropyStatistics& statistics) {
  const HeadTable thresholds = Thresholds(context, params);
  const bool previous = config_.statistics == Statistics::kPreviousStep;
  double sum = 0.0;
  for (int64_t l = 0; l < layers_; ++l) {
    for (int64_t h = 0; h < heads_; ++h) {
      const size_t i = Index(l, h);
      const double mean = previous ? previous_entropy_[i] : statistics.Mean(l, h);
      HeadState state = JudgeHead(mean, thresholds[static_cast<size_t>(l)][static_cast<size_t>(h)]);
      // The first step has no previous one: the gate stays shut.
      if (previous && !has_previous_) state = {};
      heads_state_[i] = state;
      gate_sum_[i] += state.gate;
      sum += state.delta * state.delta * state.gate;
    }
  }
  penalty_sum_ += sum / static_cast<double>(all_heads_);
}

// Rows of other micro-steps have no part in a row's penalty, so both forms of `statistics` are the same here.
void EntropyRegularizer::MeasureRows(Context& context, const ParamSet& params,
                                     const TensorView& entropy) {
  const auto rows = static_cast<double>(entropy.dim(1) * entropy.dim(3));
  double sum = 0.0;
  for (int64_t l = 0; l < layers_; ++l) {
    const std::vector<HeadPenalty> sums = PenalizeRows(context, params, l, LayerRows(entropy, l));
    for (int64_t h = 0; h < heads_; ++h) {
      sum += sums[static_cast<size_t>(h)].penalty / rows;
      gate_sum_[Index(l, h)] += sums[static_cast<size_t>(h)].open_rows / rows;
    }
  }
  penalty_sum_ += sum / static_cast<double>(all_heads_);
}

std::vector<HeadPenalty> EntropyRegularizer::PenalizeRows(Context& context, const ParamSet& params,
                                                          int64_t layer, const TensorView& entropy,
                                                          const TensorView& gradient,
                                                          double scale) const {
  std::vector<HeadPenalty> sums(static_cast<size_t>(heads_));
  RowPenalty(context,
             {.entropy = entropy,
              .threshold = params.value(thresholds_[static_cast<size_t>(layer)]),
              .gradient = gradient,
              .max_entropy = row_max_.data(),
              .margin = config_.margin,
              .scale = scale},
             sums.data());
  return sums;
}

double EntropyRegularizer::GradientScale(int64_t rows) const {
  return 2.0 * strength_ / static_cast<double>(all_heads_ * rows * parts_);
}

TensorView EntropyRegularizer::RowGradient(Context& context, const ParamSet& params, int64_t layer,
                                           const TensorView& entropy, const TensorView& buffer) {
  const int64_t rows = entropy.dim(0) * entropy.dim(2);
  const double scale = GradientScale(rows);
  if (scale == 0.0) return {};
  if (config_.granularity == Granularity::kHead) return HeadGradient(layer, rows);
  const std::vector<HeadPenalty> sums =
      PenalizeRows(context, params, layer, entropy, buffer, scale);
  double open = 0.0;
  for (int64_t h = 0; h < heads_; ++h) {
    open += sums[static_cast<size_t>(h)].open_rows;
    AddThresholdGradient(layer, h, sums[static_cast<size_t>(h)].threshold_gradient);
  }
  return open > 0.0 ? buffer : TensorView();
}

void EntropyRegularizer::PutHeadGradients(Context& context, int64_t rows) {
  std::vector<float> gradients;
  for (const HeadState& state : heads_state_) {
    gradients.push_back(static_cast<float>(GradientScale(rows) * state.delta * state.gate));
  }
  FromHost(context, gradients.data(), head_gradients_);
}

TensorView EntropyRegularizer::HeadGradient(int64_t layer, int64_t rows) {
  bool open = false;
  for (int64_t h = 0; h < heads_; ++h) {
    const HeadState& state = heads_state_[Index(layer, h)];
    open = open || state.gate > 0.0;
    const double gradient = GradientScale(rows) * state.delta * state.gate;
    AddThresholdGradient(layer, h, -head_max_ * gradient * static_cast<double>(rows));
  }
  return open ? head_gradients_.Rows(layer, 1).Reshape({heads_}) : TensorView();
}

void EntropyRegularizer::AddThresholdGradient(int64_t layer, int64_t head, double gradient) {
  float& sum = threshold_gradient_[Index(layer, head)];
  sum = static_cast<float>(sum + gradient);
}

ElementRange EntropyRegularizer::FlatRange(const ParamSet& params) const {
  return {params.offset(thresholds_.front()), params.FlatRange(thresholds_.back()).end};
}

void EntropyRegularizer::WriteGradients(Context& context, const ParamSet& params) const {
  const ElementRange flat = FlatRange(params);
  std::vector<float> padded(static_cast<size_t>(flat.size()));
  for (int64_t l = 0; l < layers_; ++l) {
    const int64_t begin = params.offset(thresholds_[static_cast<size_t>(l)]) - flat.begin;
    std::copy_n(&threshold_gradient_[Index(l, 0)], heads_, &padded[static_cast<size_t>(begin)]);
  }
  FromHost(context, padded.data(),
           {params.flat_gradient().data<float>() + flat.begin, DType::kF32, {flat.size()}});
}

void EntropyRegularizer::EndStep(const EntropyStatistics& statistics) {
  for (int64_t l = 0; l < layers_; ++l) {
    for (int64_t h = 0; h < heads_; ++h) {
      previous_entropy_[Index(l, h)] = static_cast<float>(statistics.Mean(l, h));
    }
  }
  has_previous_ = true;
}

std::vector<double> EntropyRegularizer::Measured() const {
  std::vector<double> measured = {penalty_sum_};
  measured.insert(measured.end(), gate_sum_.begin(), gate_sum_.end());
  return measured;
}

void EntropyRegularizer::SetMeasured(const std::vector<double>& measured) {
  CHECK_EQ(measured.size(), 1 + gate_sum_.size());
  penalty_sum_ = measured[0];
  gate_sum_.assign(measured.begin() + 1, measured.end());
}

double EntropyRegularizer::Gate(int64_t layer, int64_t head) const {
  return gate_sum_[Index(layer, head)] / static_cast<double>(micro_steps_ > 0 ? micro_steps_ : 1);
}

HeadTable EntropyRegularizer::Thresholds(Context& context, const ParamSet& params) const {
  const ElementRange flat = FlatRange(params);
  const ElementRange held = params.InWholeValues(flat);
  CHECK_EQ(held.size(), flat.size());
  const std::vector<float> padded = ToHost<float>(
      context, {params.whole_values().data<float>() + held.begin, DType::kF32, {held.size()}});
  HeadTable table;
  for (const ParamId id : thresholds_) {
    const auto begin = padded.begin() + (params.offset(id) - flat.begin);
    table.emplace_back(begin, begin + heads_);
  }
  return table;
}

void EntropyRegularizer::BeginEvaluation() {
  evaluation_sum_ = 0.0;
  evaluation_rows_ = 0.0;
}

void EntropyRegularizer::AddEvaluation(Context& context, const ParamSet& params,
                                       const TensorView& entropy) {
  if (config_.granularity == Granularity::kHead) return;
  for (int64_t l = 0; l < layers_; ++l) {
    const std::vector<HeadPenalty> sums = PenalizeRows(context, params, l, LayerRows(entropy, l));
    for (const HeadPenalty& sum : sums) evaluation_sum_ += sum.penalty;
  }
  // Of all heads: the sum over tp of each rank's sum is divided by it.
  evaluation_rows_ += static_cast<double>(all_heads_ * entropy.dim(1) * entropy.dim(3));
}

double EntropyRegularizer::EvaluationPenalty(Context& context, const ParamSet& params,
                                             const EntropyStatistics& statistics) const {
  if (config_.granularity == Granularity::kQuery) {
    return evaluation_rows_ > 0.0 ? evaluation_sum_ / evaluation_rows_ : 0.0;
  }
  const HeadTable thresholds = Thresholds(context, params);
  double sum = 0.0;
  for (int64_t l = 0; l < layers_; ++l) {
    for (int64_t h = 0; h < heads_; ++h) {
      const HeadState state = JudgeHead(statistics.Mean(l, h),
                                        thresholds[static_cast<size_t>(l)][static_cast<size_t>(h)]);
      sum += state.delta * state.delta * state.gate;
    }
  }
  return sum / static_cast<double>(all_heads_);
}

}  // namespace entrain
