#include "model/head.h"

#include <algorithm>

#include "model/init.h"
#include "runtime/kernels/matmul.h"
#include "runtime/tensor/tensor_copy.h"

namespace entrain {
namespace {

// The gradient of a chunk of logits, laid over them: in bf16 each row takes the front half of an fp32 row.
TensorView GradientOver(const TensorView& logits, DType compute) {
  const int64_t stride = logits.row_stride() * SizeOf(logits.dtype()) / SizeOf(compute);
  return {logits.raw(), compute, {logits.dim(0), logits.dim(1)}, stride};
}

}  // namespace

Head::Head(ParamSet& params, const ModelConfig& config, ParamId embedding, const TensorParallel& tp)
    : tp_(tp),
      width_(config.width),
      vocab_(VocabShard::Of(config.vocab, tp.place())),
      cross_entropy_(tp, vocab_.tokens),
      norm_(params, "transformer.ln_f", config.final_norm, config.width, tp),
      matrix_(embedding) {
  if (config.tie_word_embeddings) return;
  matrix_ =
      params.Add(VocabMatrixSpec("lm_head.weight", config.vocab, width_, kInitStd, tp.place()));
}

Head::Saved Head::AllocateSaved(Arena& arena, int64_t rows, const LogitsLayout& layout,
                                DType compute, bool training) const {
  Saved saved;
  saved.norm = norm_.AllocateSaved(arena, rows, compute);
  const int64_t held = std::min(rows, layout.rows);
  saved.logits = arena.Allocate("logits", layout.dtype, {held, vocab_.padded});
  saved.softmax = VocabCrossEntropy::AllocateSaved(arena, held);
  saved.loss = arena.Allocate("loss", DType::kF32, {rows});
  if (training && !norm_.is_none()) {
    saved.normed =
        arena.Allocate("gradient of the final norm", DType::kF32, {tp_.StreamRows(rows), width_});
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

void Head::Loss(Context& context, const ParamSet& params, const ResidualStream& x,
                const TensorView& targets, Saved& saved) const {
  norm_.Forward(context, params, x, saved.norm);
  tp_.GatherStream(saved.norm.out, "input of the head");
  const int64_t chunk_rows = saved.logits.rows();
  const int64_t rows = targets.size();
  for (int64_t begin = 0; begin < rows; begin += chunk_rows) {
    const int64_t count = std::min(chunk_rows, rows - begin);
    cross_entropy_.Run(context,
                       {.logits = ChunkLogits(context, params, saved, begin, count),
                        .targets = targets.Slice(begin, count),
                        .loss = saved.loss.Slice(begin, count)},
                       saved.softmax);
  }
}

void Head::LossAndGradient(Context& context, const ParamSet& params, const ResidualStream& x,
                           const TensorView& targets, float scale, const TensorView& dx,
                           const TensorView& dx_copy, const TensorView& sums, bool accumulate,
                           Saved& saved) const {
  norm_.Forward(context, params, x, saved.norm);
  tp_.GatherStream(saved.norm.out, "input of the head");
  const TensorView& dnormed = norm_.is_none() ? dx : saved.normed;
  const TensorParallel::Part part = tp_.BeginSum(dnormed, /*addend=*/{}, sums);
  const int64_t chunk_rows = saved.logits.rows();
  const int64_t rows = targets.size();
  for (int64_t begin = 0; begin < rows; begin += chunk_rows) {
    const int64_t count = std::min(chunk_rows, rows - begin);
    const TensorView logits = ChunkLogits(context, params, saved, begin, count);
    const TensorView dlogits = GradientOver(logits, saved.norm.out.dtype());
    cross_entropy_.Run(context,
                       {.logits = logits,
                        .targets = targets.Slice(begin, count),
                        .loss = saved.loss.Slice(begin, count),
                        .dlogits = dlogits,
                        .scale = scale},
                       saved.softmax);
    Matmul(context,
           {.a = dlogits, .b = params.compute(matrix_), .out = part.out.Rows(begin, count)});
    Matmul(context, {.a = dlogits,
                     .b = saved.norm.out.Rows(begin, count),
                     .out = params.gradient(matrix_),
                     .transpose_a = true,
                     .accumulate = accumulate || begin > 0});
  }
  tp_.EndSum(context, dnormed, /*addend=*/{}, part, "gradient of the head's input");
  norm_.Backward(context, params, x.x, saved.norm,
                 {.scratch = saved.normed,
                  .dx = dx,
                  .dx_copy = dx_copy,
                  .add_to_dx = false,
                  .accumulate = accumulate});
}

TensorView Head::Logits(Context& context, const ParamSet& params, const TensorView& x,
                        Saved& saved) const {
  norm_.Forward(context, params, {.x = x}, saved.norm);
  return ChunkLogits(context, params, saved, 0, x.rows());
}

}  // namespace entrain
