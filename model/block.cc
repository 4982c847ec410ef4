#include "model/block.h"

#include <string>

#include "runtime/kernels/cast.h"

namespace entrain {

Block::Block(ParamSet& params, const ModelConfig& config, int64_t layer, const TensorParallel& tp)
    : tp_(tp),
      kind_(config.block),
      has_ffn_(config.layer_has_ffn(layer)),
      width_(config.width),
      heads_width_(tp.Share(config.width)),
      ffn_width_(has_ffn_ && config.ffn != Ffn::kFused ? tp.Share(config.ffn_width()) : 0) {
  const std::string prefix = "transformer.h." + std::to_string(layer);
  norm1_ = NormLayer(params, prefix + ".ln_1", config.block_norm, width_, tp);
  attention_ = AttentionLayer(params, prefix + ".attn", config, tp);
  if (!has_ffn_) return;
  norm2_ = NormLayer(params, prefix + ".ln_2", config.block_norm, width_, tp);
  ffn_ = FfnLayer(params, prefix + ".mlp", config, tp);
}

Block::Saved Block::AllocateSaved(Arena& arena, int64_t batch, int64_t positions,
                                  DType compute) const {
  const int64_t rows = batch * positions;
  Saved saved;
  saved.norm1 = norm1_.AllocateSaved(arena, rows, compute);
  saved.attention = attention_.AllocateSaved(arena, batch, positions, compute);
  if (!has_ffn_) return saved;
  saved.y = arena.Allocate("stream after attention", DType::kF32, {tp_.StreamRows(rows), width_});
  saved.norm2 = norm2_.AllocateSaved(arena, rows, compute);
  saved.ffn = ffn_.AllocateSaved(arena, rows, compute);
  return saved;
}

Block::Scratch Block::AllocateScratch(Arena& arena, int64_t rows, DType compute) const {
  Scratch scratch;
  scratch.branch = arena.Allocate("gradient of a branch", compute, {rows, width_});
  if (kind_ == BlockKind::kParallel && has_ffn_ && ffn_.scaled()) {
    scratch.branch2 = arena.Allocate("gradient of the other branch", compute, {rows, width_});
  }
  if (!norm1_.is_none()) {
    scratch.normed =
        arena.Allocate("gradient of a norm's output", DType::kF32, {tp_.StreamRows(rows), width_});
  }
  scratch.attention = arena.Allocate("gradient of attention", compute, {rows, heads_width_});
  scratch.qkv = arena.Allocate("gradient of qkv", compute, {rows, 3 * heads_width_});
  if (ffn_width_ > 0) {
    scratch.hidden = arena.Allocate("gradient of ffn hidden", compute, {rows, ffn_width_});
  }
  return scratch;
}

ResidualStream Block::Forward(Context& context, const ParamSet& params, const ResidualStream& x,
                              const TensorView& out, const TensorView& sums,
                              const TensorView& entropy, Saved& saved) const {
  const TensorView y = StreamAfterAttention(out, saved);
  norm1_.Forward(context, params, x, saved.norm1);
  attention_.Forward(context, params, saved.norm1.out, x.x, y, sums, entropy, saved.attention);
  return ForwardFfn(context, params, x.x, out, sums, saved);
}

ResidualStream Block::ForwardFfn(Context& context, const ParamSet& params, const TensorView& x,
                                 const TensorView& out, const TensorView& sums,
                                 Saved& saved) const {
  if (!has_ffn_) return {.x = out};
  const TensorView& input = kind_ == BlockKind::kParallel ? x : saved.y;
  norm2_.Forward(context, params, {.x = input}, saved.norm2);
  return ffn_.Forward(context, params, saved.norm2.out, saved.y, out, sums, saved.ffn);
}

void Block::Backward(Context& context, const ParamSet& params, const Saved& saved,
                     const TensorView& x, const TensorView& entropy,
                     const TensorView& entropy_gradient, const TensorView& dx,
                     const TensorView& dx_copy, const Scratch& scratch, bool accumulate) const {
  // In a parallel block the FFN's gradient joins x, not y: what flows into attention is dx as it is before. Without scales that
  // is ∂L/∂f, too; with them it is set aside.
  const bool parallel = kind_ == BlockKind::kParallel;
  TensorView branch = scratch.branch;
  if (has_ffn_) {
    ffn_.BackwardScales(context, params, saved.ffn, saved.y, dx,
                        {scratch.branch, scratch.hidden, scratch.sums}, accumulate);
    if (parallel && ffn_.scaled()) {
      branch = scratch.branch2;
      Cast(context, dx, tp_.StreamPart(branch));
    }
    BackwardFfn(context, params, saved, x, dx, parallel ? TensorView() : tp_.StreamPart(branch),
                scratch, accumulate);
  }
  BackwardAttention(context, params, saved, x, entropy, entropy_gradient, dx, dx_copy, scratch,
                    branch, accumulate);
}

void Block::BackwardFfn(Context& context, const ParamSet& params, const Saved& saved,
                        const TensorView& x, const TensorView& dx, const TensorView& dx_copy,
                        const Scratch& scratch, bool accumulate) const {
  const TensorView& input = kind_ == BlockKind::kParallel ? x : saved.y;
  ffn_.BackwardBranch(context, params, saved.ffn, saved.norm2.out,
                      norm2_.GradientTarget(dx, scratch.normed), norm2_.is_none(),
                      {scratch.branch, scratch.hidden, scratch.sums}, accumulate);
  norm2_.Backward(
      context, params, input, saved.norm2,
      {.scratch = scratch.normed, .dx = dx, .dx_copy = dx_copy, .accumulate = accumulate});
}

void Block::BackwardAttention(Context& context, const ParamSet& params, const Saved& saved,
                              const TensorView& x, const TensorView& entropy,
                              const TensorView& entropy_gradient, const TensorView& dx,
                              const TensorView& dx_copy, const Scratch& scratch,
                              const TensorView& branch, bool accumulate) const {
  attention_.Backward(context, params, saved.attention, saved.norm1.out, entropy, entropy_gradient,
                      norm1_.GradientTarget(dx, scratch.normed), norm1_.is_none(),
                      {branch, scratch.attention, scratch.qkv, scratch.sums}, accumulate);
  norm1_.Backward(
      context, params, x, saved.norm1,
      {.scratch = scratch.normed, .dx = dx, .dx_copy = dx_copy, .accumulate = accumulate});
}

void Block::Decode(Context& context, const ParamSet& params, const TensorView& x,
                   const TensorView& out, const TensorView& entropy, Saved& saved,
                   const AttentionLayer::Cache& cache, int64_t length) const {
  const TensorView y = StreamAfterAttention(out, saved);
  norm1_.Forward(context, params, {.x = x}, saved.norm1);
  attention_.Decode(context, params, saved.norm1.out, x, y, entropy, saved.attention, cache,
                    length);
  ForwardFfn(context, params, x, out, {}, saved).Complete(context);
}

}  // namespace entrain
