// Block: one layer of the transformer.
//   sequential:  y = x + MHA(N1(x));  x' = β·y + (1/α)·FFN(N2(y))
//   parallel:    y = x + MHA(N1(x));  x' = β·y + (1/α)·FFN(N2(x))
//   pruned FFN:  x' = y
#ifndef ENTRAIN_MODEL_BLOCK_H_
#define ENTRAIN_MODEL_BLOCK_H_

#include <cstdint>

#include "model/attention_layer.h"
#include "model/ffn.h"
#include "model/norm.h"

namespace entrain {

class Block {
 public:
  // Parameters below `transformer.h.<layer>`.
  Block(ParamSet& params, const ModelConfig& config, int64_t layer, const TensorParallel& tp);

  struct Saved {
    NormLayer::Saved norm1;
    AttentionLayer::Saved attention;
    TensorView y;  // f32 [stream rows, C]; unused where the FFN is pruned
    NormLayer::Saved norm2;
    FfnLayer::Saved ffn;
  };
  Saved AllocateSaved(Arena& arena, int64_t batch, int64_t positions, DType compute) const;

  // x → the stream behind the block, in out f32 [stream rows, C] (not x's memory), its last sum perhaps left pending; entropy f32
  // [B, H, T], this rank's heads; sums as TensorParallel::BeginSum.
  ResidualStream Forward(Context& context, const ParamSet& params, const ResidualStream& x,
                         const TensorView& out, const TensorView& sums, const TensorView& entropy,
                         Saved& saved) const;

  struct Scratch {
    TensorView branch;     // compute dtype [R, C]
    TensorView branch2;    // compute dtype [R, C]; parallel blocks with scales only
    TensorView normed;     // f32 [stream rows, C]
    TensorView attention;  // compute dtype [R, C of the heads here]
    TensorView qkv;        // compute dtype [R, 3C of them]
    TensorView hidden;     // compute dtype [R, F here]
    TensorView sums;       // as TensorParallel::BeginSum: the activations', not allocated here
  };
  Scratch AllocateScratch(Arena& arena, int64_t rows, DType compute) const;

  // dx f32 [stream rows, C]: ∂L/∂out on entry, ∂L/∂x on return. The products of the backward take ∂L/∂out in the compute dtype:
  // who writes dx last puts it into scratch.branch's stream rows too, where GradientCopy says so. dx_copy, of that dtype, or
  // empty: becomes ∂L/∂x likewise, for the block before.
  TensorView GradientCopy(const Scratch& scratch) const {
    return has_ffn_ && ffn_.scaled() ? TensorView() : tp_.StreamPart(scratch.branch);
  }
  void Backward(Context& context, const ParamSet& params, const Saved& saved, const TensorView& x,
                const TensorView& entropy, const TensorView& entropy_gradient, const TensorView& dx,
                const TensorView& dx_copy, const Scratch& scratch, bool accumulate) const;

  // Sampling: one new position; saved for one row.
  void Decode(Context& context, const ParamSet& params, const TensorView& x, const TensorView& out,
              const TensorView& entropy, Saved& saved, const AttentionLayer::Cache& cache,
              int64_t length) const;

  bool has_ffn() const { return has_ffn_; }
  FfnLayer& ffn() { return ffn_; }
  const FfnLayer& ffn() const { return ffn_; }

 private:
  // The stream after attention: y, or with a pruned FFN the block's output itself.
  TensorView StreamAfterAttention(const TensorView& out, const Saved& saved) const {
    return has_ffn_ ? saved.y : out;
  }
  ResidualStream ForwardFfn(Context& context, const ParamSet& params, const TensorView& x,
                            const TensorView& out, const TensorView& sums, Saved& saved) const;
  void BackwardFfn(Context& context, const ParamSet& params, const Saved& saved,
                   const TensorView& x, const TensorView& dx, const TensorView& dx_copy,
                   const Scratch& scratch, bool accumulate) const;
  void BackwardAttention(Context& context, const ParamSet& params, const Saved& saved,
                         const TensorView& x, const TensorView& entropy,
                         const TensorView& entropy_gradient, const TensorView& dx,
                         const TensorView& dx_copy, const Scratch& scratch,
                         const TensorView& branch, bool accumulate) const;

  TensorParallel tp_;
  BlockKind kind_;
  bool has_ffn_;
  int64_t width_;
  int64_t heads_width_;  // of the heads here
  int64_t ffn_width_;    // here; 0: no hidden layer
  NormLayer norm1_;
  AttentionLayer attention_;
  NormLayer norm2_;
  FfnLayer ffn_;
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_BLOCK_H_
