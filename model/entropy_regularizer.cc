#include "model/entropy_regularizer.h"

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
      on_host_(1 + Index(layers_, 0)) {
  for (int64_t l = 0; l < layers_; ++l) {
    thresholds_.push_back(
        params.Add({.name = "transformer.h." + std::to_string(l) + ".attn.entropy_threshold",
                    .scale = static_cast<float>(config_.threshold_init),
                    .shard = ShardSpec::Cut({model.heads}, 0, tp.place())}));
  }
}

void EntropyRegularizer::Allocate(Arena& arena) {
  const int64_t measured = 1 + layers_ * heads_;
  strength_on_device_ = arena.Allocate("entropy penalty's strength", DType::kF64, {1});
  row_max_on_device_ =
      arena.Allocate("largest entropies", DType::kF64, {static_cast<int64_t>(row_max_.size())});
  measured_ = arena.Allocate("measured penalty and gates", DType::kF64, {measured});
  evaluated_ = arena.Allocate("evaluated penalty and gates", DType::kF64, {measured});
  head_gradients_ = arena.Allocate("entropy gradients of heads", DType::kF32, {layers_, heads_});
  previous_entropy_ = arena.Allocate("previous entropies", DType::kF32, {layers_, heads_});
}

double EntropyRegularizer::StrengthAt(int64_t step) const {
  if (step < config_.start_step) return 0.0;
  const int64_t done = step - config_.start_step + 1;
  if (done >= config_.warmup_steps) return config_.strength;
  return config_.strength * static_cast<double>(done) / static_cast<double>(config_.warmup_steps);
}

void EntropyRegularizer::BeginStep(Context& context, int64_t step, int64_t micro_steps,
                                   int64_t ranks) {
  strength_ = StrengthAt(step);
  micro_steps_ = micro_steps;
  ranks_ = ranks;
  FromHost(context, &strength_, strength_on_device_);
  PutMaxima(context);
}

void EntropyRegularizer::PutMaxima(Context& context) {
  if (!maxima_on_device_) FromHost(context, row_max_.data(), row_max_on_device_);
  maxima_on_device_ = true;
}

void EntropyRegularizer::Measure(Context& context, const ParamSet& params,
                                 const MicroStep& micro_step) {
  rows_ = micro_step.entropy.dim(1) * micro_step.entropy.dim(3);
  if (micro_step.first) FillZero(context, measured_);
  if (config_.granularity == Granularity::kHead) {
    MeasureHeads(context, params, micro_step);
    return;
  }
  // Rows of other micro-steps have no part in a row's penalty, so both forms of `statistics` are the same here.
  RowPenalty(context, {.entropy = micro_step.entropy,
                       .threshold = ThresholdValues(params),
                       .max_entropy = row_max_on_device_,
                       .margin = config_.margin,
                       .measured = measured_});
}

// The gradient of a row is 2·λ·δ·gate over this: its share in the mean over rows, heads, layers and parts.
int64_t EntropyRegularizer::GradientCount() const {
  return all_heads_ * rows_ * micro_steps_ * ranks_;
}

void EntropyRegularizer::MeasureHeads(Context& context, const ParamSet& params,
                                      const MicroStep& micro_step) {
  const bool previous = config_.statistics == Statistics::kPreviousStep;
  const TensorView gradients = ThresholdGradients(params);
  // The first step has no previous one: gates stay shut.
  if (previous && !has_previous_) {
    FillZero(context, head_gradients_);
    for (int64_t l = 0; l < layers_; ++l) FillZero(context, gradients.Rows(l, 1));
    return;
  }
  HeadPenalty(context, {.sums = previous ? TensorView() : micro_step.sums,
                        .rows = micro_step.rows,
                        .mean = previous ? previous_entropy_ : TensorView(),
                        .threshold = ThresholdValues(params),
                        .max_entropy = head_max_,
                        .margin = config_.margin,
                        .strength = strength_on_device_,
                        .count = GradientCount(),
                        .gradient_rows = rows_,
                        .gradient = head_gradients_,
                        .threshold_gradient = gradients,
                        .accumulate = !micro_step.first,
                        .measured = measured_});
}

TensorView EntropyRegularizer::RowGradient(Context& context, const ParamSet& params, int64_t layer,
                                           const TensorView& entropy, const TensorView& buffer,
                                           bool first) {
  const ParamId threshold = thresholds_[static_cast<size_t>(layer)];
  if (config_.granularity == Granularity::kHead) {
    return strength_ == 0.0 ? TensorView() : head_gradients_.Rows(layer, 1).Reshape({heads_});
  }
  if (strength_ == 0.0) {
    if (first) FillZero(context, params.gradient(threshold));
    return {};
  }
  RowPenaltyGradient(context, {.entropy = entropy,
                               .threshold = params.value(threshold),
                               .max_entropy = row_max_on_device_,
                               .margin = config_.margin,
                               .strength = strength_on_device_,
                               .count = GradientCount(),
                               .gradient = buffer,
                               .threshold_gradient = params.gradient(threshold),
                               .accumulate = !first});
  return buffer;
}

void EntropyRegularizer::KeepMeans(Context& context, const TensorView& sums, int64_t rows,
                                   const TensorView& unless_nan) {
  entrain::KeepMeans(
      context, {.sums = sums, .rows = rows, .unless_nan = unless_nan, .mean = previous_entropy_});
}

void EntropyRegularizer::EndStep(Context& context, bool kept) {
  on_host_ = ToHost<double>(context, measured_);
  has_previous_ = has_previous_ || kept;
}

double EntropyRegularizer::MeasuredCount() const {
  const int64_t rows = config_.granularity == Granularity::kHead ? 1 : rows_;
  return static_cast<double>(rows * micro_steps_ * ranks_);
}

double EntropyRegularizer::PenaltyOf(double measured) const {
  return measured / (MeasuredCount() * static_cast<double>(all_heads_));
}

double EntropyRegularizer::Gate(int64_t layer, int64_t head) const {
  return on_host_[1 + Index(layer, head)] / MeasuredCount();
}

TensorView EntropyRegularizer::OfThresholds(
    const std::function<TensorView(ParamId)>& of_layer) const {
  // Declared one after another, so they lie at equal distances.
  auto* first = of_layer(thresholds_.front()).data<float>();
  if (layers_ == 1) return {first, DType::kF32, {1, heads_}};
  const int64_t stride = of_layer(thresholds_[1]).data<float>() - first;
  CHECK_EQ(of_layer(thresholds_.back()).data<float>() - first, (layers_ - 1) * stride);
  return {first, DType::kF32, {layers_, heads_}, stride};
}

TensorView EntropyRegularizer::ThresholdValues(const ParamSet& params) const {
  return OfThresholds([&](ParamId id) { return params.value(id); });
}

TensorView EntropyRegularizer::ThresholdGradients(const ParamSet& params) const {
  return OfThresholds([&](ParamId id) { return params.gradient(id); });
}

HeadTable EntropyRegularizer::Thresholds(Context& context, const ParamSet& params) const {
  const TensorView values = ThresholdValues(params);
  const int64_t stride = values.row_stride();
  const std::vector<float> padded =
      ToHost<float>(context, {values.raw(), DType::kF32, {(layers_ - 1) * stride + heads_}});
  HeadTable table;
  for (int64_t l = 0; l < layers_; ++l) {
    const auto begin = padded.begin() + l * stride;
    table.emplace_back(begin, begin + heads_);
  }
  return table;
}

void EntropyRegularizer::BeginEvaluation(Context& context) {
  PutMaxima(context);
  FillZero(context, evaluated_);
  evaluation_rows_ = 0.0;
}

void EntropyRegularizer::AddEvaluation(Context& context, const ParamSet& params,
                                       const TensorView& entropy) {
  if (config_.granularity == Granularity::kHead) return;
  RowPenalty(context, {.entropy = entropy,
                       .threshold = ThresholdValues(params),
                       .max_entropy = row_max_on_device_,
                       .margin = config_.margin,
                       .measured = evaluated_});
  // Of all heads: the sum over tp of each rank's sum is divided by it.
  evaluation_rows_ += static_cast<double>(all_heads_ * entropy.dim(1) * entropy.dim(3));
}

std::vector<double> EntropyRegularizer::EvaluationSums(Context& context) const {
  return {ToHost<double>(context, evaluated_).front(), evaluation_rows_};
}

double EntropyRegularizer::EvaluationPenalty(Context& context, const ParamSet& params,
                                             const EntropyStatistics& statistics,
                                             const std::vector<double>& sums) const {
  if (config_.granularity == Granularity::kQuery) return sums[1] > 0.0 ? sums[0] / sums[1] : 0.0;
  const HeadTable thresholds = Thresholds(context, params);
  double sum = 0.0;
  for (int64_t l = 0; l < layers_; ++l) {
    for (int64_t h = 0; h < heads_; ++h) {
      const double threshold = thresholds[static_cast<size_t>(l)][static_cast<size_t>(h)];
      const double delta = statistics.Mean(l, h) - threshold * head_max_;
      sum += std::abs(delta) > config_.margin * head_max_ ? delta * delta : 0.0;
    }
  }
  return sum / static_cast<double>(all_heads_);
}

}  // namespace entrain
