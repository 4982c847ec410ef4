// Head: final norm, logits, loss. The vocabulary is cut over tp. The logits of one chunk of rows exist at a time, once: they become their own
// gradient in place, and go through the head's backward at once, before the next chunk is made.
#ifndef ENTRAIN_MODEL_HEAD_H_
#define ENTRAIN_MODEL_HEAD_H_

#include "model/model_config.h"
#include "model/norm.h"
#include "parallel/param_set.h"
#include "parallel/vocab_cross_entropy.h"
#include "parallel/vocab_embedding.h"

namespace entrain {

// Of the logits that exist at a time.
struct LogitsLayout {
  int64_t rows = 0;           // at most
  DType dtype = DType::kF32;  // bf16 only where the products' factors are
};

class Head {
 public:
  // On the CPU a chunk's logits are to stay near the caches. A GPU's products want more rows, and every chunk reads and writes
  // the whole gradient of the matrix: with 8192 of GPT-2's 65,536 rows that is half a per cent of a step, with 1024 four.
  static constexpr int64_t kChunkRows = 1024;
  static constexpr int64_t kGpuChunkRows = 8192;
  static constexpr int64_t ChunkRows(DeviceKind device) {
    return device == DeviceKind::kCpu ? kChunkRows : kGpuChunkRows;
  }

  Head() = default;
  // Parameters `transformer.ln_f` and, untied, `lm_head.weight` [V, C]; `embedding` is wte.
  Head(ParamSet& params, const ModelConfig& config, ParamId embedding, const TensorParallel& tp);

  struct Saved {
    NormLayer::Saved norm;
    TensorView logits;  // f32 or bf16 [min(R, chunk rows), padded V here]
    VocabCrossEntropy::Saved softmax;
    TensorView loss;    // f32 [R]
    TensorView normed;  // f32 [stream rows, C], training only: gradient of the norm's output
  };
  Saved AllocateSaved(Arena& arena, int64_t rows, const LogitsLayout& layout, DType compute,
                      bool training) const;

  // Cross-entropy of each of the R rows, in nats, into saved.loss. targets i32 [R].
  void Loss(Context& context, const ParamSet& params, const ResidualStream& x,
            const TensorView& targets, Saved& saved) const;

  // The same, and ∂(scale · Σ loss)/∂x into dx f32 [stream rows, C] (overwritten), and into dx_copy, of any float dtype, unless
  // that is empty; sums as TensorParallel::BeginSum. Gradients of the parameters are overwritten, or added to when accumulate; the
  // tied embedding's are later added to by the embedding itself.
  void LossAndGradient(Context& context, const ParamSet& params, const ResidualStream& x,
                       const TensorView& targets, float scale, const TensorView& dx,
                       const TensorView& dx_copy, const TensorView& sums, bool accumulate,
                       Saved& saved) const;

  // Logits f32 [rows of x, padded V] into saved.logits, which must be f32 and have room for them: for sampling, with one rank.
  TensorView Logits(Context& context, const ParamSet& params, const TensorView& x,
                    Saved& saved) const;

  ParamId matrix() const { return matrix_; }

 private:
  TensorView ChunkLogits(Context& context, const ParamSet& params, const Saved& saved,
                         int64_t begin, int64_t count) const;

  TensorParallel tp_;
  int64_t width_ = 0;
  VocabShard vocab_;
  VocabCrossEntropy cross_entropy_;
  NormLayer norm_;
  ParamId matrix_;  // wte or lm_head
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_HEAD_H_
