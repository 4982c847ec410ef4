#include "model/head.h"

#include <algorithm>
#include <cstring>

#include "model/init.h"
#include "runtime/kernels/cross_entropy.h"
#include "runtime/kernels/matmul.h"

namespace entrain {
namespace {

double MeanOf(const TensorView& loss) {
  const auto* values = loss.data<float>();
  double sum = 0.0;
  for (int64_t i = 0; i < loss.size(); ++i) sum += values[i];
  return sum / static_cast<double>(loss.size());
}

// The gradient of a chunk of logits, laid over them: in bf16 each row takes the front half of its fp32 row.
TensorView GradientOver(const TensorView& logits, DType compute) {
  const int64_t stride = compute == DType::kBf16 ? 2 * logits.row_stride() : logits.row_stride();
  return {logits.raw(), compute, {logits.dim(0), logits.dim(1)}, stride};
}

TensorView Slice(const TensorView& vector, int64_t begin, int64_t count) {
  auto* data = static_cast<char*>(vector.raw()) + begin * SizeOf(vector.dtype());
  return {data, vector.dtype(), {count}};
}

}  // namespace

Head::Head(ParamSet& params, const ModelConfig& config, ParamId embedding)
    : width_(config.width),
      vocab_(config.vocab),
      padded_vocab_(config.padded_vocab()),
      norm_(params, "transformer.ln_f", config.final_norm, config.width),
      matrix_(embedding) {
  if (config.tie_word_embeddings) return;
  matrix_ = params.Add({.name = "lm_head.weight",
                        .shape = {vocab_, width_},
                        .init = InitKind::kNormal,
                        .scale = kInitStd,
                        .padded_rows = padded_vocab_,
                        .matrix = true});
}

Head::Saved Head::AllocateSaved(Arena& arena, int64_t rows, int64_t chunk_rows, DType compute,
                                bool training) const {
  Saved saved;
  saved.norm = norm_.AllocateSaved(arena, rows, compute);
  saved.logits = arena.Allocate("logits", DType::kF32, {std::min(rows, chunk_rows), padded_vocab_});
  saved.loss = arena.Allocate("loss", DType::kF32, {rows});
  if (training && !norm_.is_none()) {
    saved.normed = arena.Allocate("gradient of the final norm", DType::kF32, {rows, width_});
  }
  return saved;
}

TensorView Head::ChunkLogits(Context& context, const ParamSet& params, const Saved& saved,
                             int64_t begin, int64_t count) const {
  const TensorView logits = saved.logits.Rows(0, count);
  Matmul(context, {.a = saved.norm.out.Rows(begin, count),
                   .b = params.compute(matrix_),
                   .out = logits,
                   .transpose_b = true});
  return logits;
}

double Head::Loss(Context& context, const ParamSet& params, const TensorView& x,
                  const TensorView& targets, Saved& saved) const {
  norm_.Forward(context, params, x, saved.norm);
  const int64_t chunk_rows = saved.logits.rows();
  for (int64_t begin = 0; begin < x.rows(); begin += chunk_rows) {
    const int64_t count = std::min(chunk_rows, x.rows() - begin);
    CrossEntropy(context, {.logits = ChunkLogits(context, params, saved, begin, count),
                           .targets = Slice(targets, begin, count),
                           .loss = Slice(saved.loss, begin, count),
                           .vocab = vocab_});
  }
  return MeanOf(saved.loss);
}

double Head::LossAndGradient(Context& context, const ParamSet& params, const TensorView& x,
                             const TensorView& targets, float scale, const TensorView& dx,
                             bool accumulate, Saved& saved) const {
  norm_.Forward(context, params, x, saved.norm);
  const TensorView& dnormed = norm_.is_none() ? dx : saved.normed;
  const int64_t chunk_rows = saved.logits.rows();
  for (int64_t begin = 0; begin < x.rows(); begin += chunk_rows) {
    const int64_t count = std::min(chunk_rows, x.rows() - begin);
    const TensorView logits = ChunkLogits(context, params, saved, begin, count);
    const TensorView dlogits = GradientOver(logits, saved.norm.out.dtype());
    CrossEntropy(context, {.logits = logits,
                           .targets = Slice(targets, begin, count),
                           .loss = Slice(saved.loss, begin, count),
                           .dlogits = dlogits,
                           .vocab = vocab_,
                           .scale = scale});
    Matmul(context,
           {.a = dlogits, .b = params.compute(matrix_), .out = dnormed.Rows(begin, count)});
    Matmul(context, {.a = dlogits,
                     .b = saved.norm.out.Rows(begin, count),
                     .out = params.gradient(matrix_),
                     .transpose_a = true,
                     .accumulate = accumulate || begin > 0});
  }
  if (!norm_.is_none()) {
    std::memset(dx.raw(), 0, static_cast<size_t>(dx.bytes()));
    norm_.Backward(context, params, x, saved.norm, saved.normed, dx, accumulate);
  }
  return MeanOf(saved.loss);
}

TensorView Head::Logits(Context& context, const ParamSet& params, const TensorView& x,
                        Saved& saved) const {
  norm_.Forward(context, params, x, saved.norm);
  return ChunkLogits(context, params, saved, 0, x.rows());
}

}  // namespace entrain
