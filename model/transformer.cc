#include "model/transformer.h"

#include "model/init.h"
#include "runtime/tensor/tensor_copy.h"

namespace entrain {

TensorView Activations::EntropyOf(int64_t layer) const {
  const int64_t rows = entropy.dim(1) * entropy.dim(2);
  return entropy.Rows(layer * rows, rows).Reshape({entropy.dim(1), entropy.dim(2), entropy.dim(3)});
}

Transformer::Transformer(const ModelConfig& config, ParamSet& params, const TensorParallel& tp)
    : config_(config), params_(params), tp_(tp) {
  wte_ = params.Add(
      VocabMatrixSpec("transformer.wte.weight", config.vocab, config.width, kInitStd, tp.place()));
  ParamId wpe;
  if (config.position == Position::kLearned) {
    wpe = params.Add({.name = "transformer.wpe.weight",
                      .shape = {config.context, config.width},
                      .init = InitKind::kNormal,
                      .scale = kInitStd,
                      .matrix = true});
  }
  embedding_ = VocabEmbedding(tp, VocabShard::Of(config.vocab, tp.place()), wte_, wpe);
  blocks_.reserve(static_cast<size_t>(config.layers));
  for (int64_t l = 0; l < config.layers; ++l) {
    first_param_.push_back(params.size());
    blocks_.emplace_back(params, config, l, tp);
  }
  first_param_.push_back(params.size());
  head_ = Head(params, config, wte_, tp);
}

std::vector<Weight*> Transformer::factored_weights() {
  std::vector<Weight*> weights;
  for (Block& block : blocks_) {
    if (!block.has_ffn() || config_.ffn_weight_norm == WeightNorm::kNone) continue;
    for (Weight* weight : block.ffn().weights()) weights.push_back(weight);
  }
  return weights;
}

std::vector<const Weight*> Transformer::factored_weights() const {
  std::vector<const Weight*> weights;
  for (const Block& block : blocks_) {
    if (!block.has_ffn() || config_.ffn_weight_norm == WeightNorm::kNone) continue;
    for (const Weight* weight : block.ffn().weights()) weights.push_back(weight);
  }
  return weights;
}

void Transformer::AllocateFactors(Arena& arena, DType compute) {
  for (Weight* weight : factored_weights()) weight->Allocate(arena, compute);
}

Activations Transformer::AllocateActivations(Arena& arena, const ActivationLayout& layout) const {
  Activations a;
  a.layout = layout;
  const int64_t rows = a.rows();
  const int64_t stream_rows = tp_.StreamRows(rows);
  a.tokens = arena.Allocate("tokens", DType::kI32, {2, rows});
  const int64_t num_streams = layout.training ? config_.layers + 1 : 2;
  for (int64_t i = 0; i < num_streams; ++i) {
    a.stream.push_back(
        arena.Allocate("residual stream", DType::kF32, {stream_rows, config_.width}));
  }
  if (tp_.sequence_parallel()) {
    a.sums = arena.Allocate("part of a sum over ranks", DType::kF32, {rows, config_.width});
  }
  const bool keep_all = layout.training && !layout.recompute;
  // Blocks differ only by a pruned FFN, and those come last: the first block's memory serves for any.
  const int64_t num_saved = keep_all ? config_.layers : 1;
  for (int64_t l = 0; l < num_saved; ++l) {
    a.blocks.push_back(blocks_[static_cast<size_t>(l)].AllocateSaved(
        arena, layout.batch, layout.positions, layout.compute));
  }
  a.entropy =
      arena.Allocate("row entropies", DType::kF32,
                     {config_.layers, layout.batch, tp_.Share(config_.heads), layout.positions});
  a.moments = AllocateMoments(arena, config_.layers, tp_.Share(config_.heads));
  a.head = head_.AllocateSaved(arena, rows, layout.logits, layout.compute, layout.training);
  if (!layout.training) return a;
  a.gradient = arena.Allocate("gradient of the stream", DType::kF32, {stream_rows, config_.width});
  a.entropy_gradient = arena.Allocate("gradient of row entropies", DType::kF32,
                                      {layout.batch, tp_.Share(config_.heads), layout.positions});
  a.scratch = blocks_[0].AllocateScratch(arena, rows, layout.compute);
  a.scratch.sums = a.sums;
  return a;
}

void Transformer::Initialize(Context& context, uint64_t seed) {
  InitializeParameters(context, params_, seed);
  InitializeFactors(context, seed);
}

void Transformer::InitializeFactors(Context& context, uint64_t seed) {
  for (Weight* weight : factored_weights()) weight->InitializeFactors(context, params_, seed);
}

void Transformer::SettleFactors(Context& context) {
  for (Weight* weight : factored_weights()) weight->SettleFactors(context, params_);
}

void Transformer::BeginStep(Context& context, bool training) {
  for (Weight* weight : factored_weights()) weight->BeginStep(context, params_, training);
}

void Transformer::EndStep(Context& context, int64_t layer) {
  Block& block = blocks_[static_cast<size_t>(layer)];
  if (!block.has_ffn()) return;
  for (Weight* weight : block.ffn().weights()) weight->EndStep(context, params_);
}

void Transformer::EndStep(Context& context) {
  for (int64_t l = 0; l < config_.layers; ++l) EndStep(context, l);
}

std::pair<int64_t, int64_t> Transformer::FlatRange(int64_t layer) const {
  const int begin = first_param_[static_cast<size_t>(layer)];
  const int end = first_param_[static_cast<size_t>(layer) + 1];
  return {params_.offset({begin}),
          end < params_.size() ? params_.offset({end}) : params_.flat_size()};
}

Transformer::Tokens Transformer::PutTokens(Context& context, const int32_t* inputs,
                                           const int32_t* targets, const Activations& a) const {
  const TensorView given = a.tokens.Rows(0, 1), wanted = a.tokens.Rows(1, 1);
  FromHost(context, inputs, given);
  if (targets != nullptr) FromHost(context, targets, wanted);
  return {.inputs = given.Reshape({a.layout.batch, a.layout.positions}),
          .targets = wanted.Reshape({a.rows()})};
}

void Transformer::RunBlocks(Context& context, const TensorView& inputs, Activations& a,
                            const std::function<void(int64_t layer)>& after_block) const {
  embedding_.Forward(context, params_, inputs, a.StreamInto(0), a.sums);
  ResidualStream x = {.x = a.StreamInto(0)};
  for (int64_t l = 0; l < config_.layers; ++l) {
    x = blocks_[static_cast<size_t>(l)].Forward(context, params_, x, a.StreamInto(l + 1), a.sums,
                                                a.EntropyOf(l), a.SavedOf(l));
    if (after_block) after_block(l);
  }
  a.last = x;
}

void Transformer::Loss(Context& context, const Tokens& tokens, Activations& a) const {
  RunBlocks(context, tokens.inputs, a);
  head_.Loss(context, params_, a.last, tokens.targets, a.head);
}

double Transformer::MeanLoss(Context& context, const Activations& a) const {
  double sum = 0.0;
  for (const float value : ToHost<float>(context, a.head.loss)) sum += value;
  return sum / static_cast<double>(a.head.loss.size());
}

void Transformer::LossAndGradient(Context& context, const Tokens& tokens, double loss_scale,
                                  bool accumulate, Activations& a) const {
  const auto scale = static_cast<float>(loss_scale / static_cast<double>(a.rows()));
  head_.LossAndGradient(context, params_, a.last, tokens.targets, scale, a.gradient,
                        GradientCopy(config_.layers - 1, a), a.sums, accumulate, a.head);
}

void Transformer::Backward(Context& context, const Tokens& tokens,
                           const EntropyGradient& entropy_gradient, bool accumulate, Activations& a,
                           const std::function<void(int64_t layer)>& after_layer) const {
  for (int64_t l = config_.layers - 1; l >= 0; --l) {
    const Block& block = blocks_[static_cast<size_t>(l)];
    if (a.layout.recompute) {
      // Its output is there: the sum is left pending.
      block.Forward(context, params_, {.x = a.StreamInto(l)}, a.StreamInto(l + 1), a.sums,
                    a.EntropyOf(l), a.SavedOf(l));
    }
    const TensorView g =
        entropy_gradient ? entropy_gradient(l, a.EntropyOf(l), a.entropy_gradient) : TensorView();
    block.Backward(context, params_, a.SavedOf(l), a.StreamInto(l), a.EntropyOf(l), g, a.gradient,
                   GradientCopy(l - 1, a), a.scratch, accumulate);
    if (after_layer) after_layer(l);
  }
  const TensorView dwte = params_.gradient(wte_);
  // Tied, the head has written the embedding's gradient already; untied, this step's first micro-step starts it.
  if (!config_.tie_word_embeddings && !accumulate) {
    FillZero(context, dwte);
  }
  embedding_.Backward(context, params_, tokens.inputs, a.gradient, a.sums, accumulate);
}

}  // namespace entrain
