// AttentionLayer: q, k, v projection, rotary positions, attention with temperatures, output projection. Heads are cut over
// tp, each whole on one rank: H and C below are this rank's, but for the stream's C.
#ifndef ENTRAIN_MODEL_ATTENTION_LAYER_H_
#define ENTRAIN_MODEL_ATTENTION_LAYER_H_

#include <string>

#include "model/model_config.h"
#include "parallel/linear.h"

namespace entrain {

class AttentionLayer {
 public:
  AttentionLayer() = default;
  // Parameters `<name>.c_attn`, `<name>.c_proj` and `<name>.temperature` [H, T] or [H].
  AttentionLayer(ParamSet& params, const std::string& name, const ModelConfig& config,
                 const TensorParallel& tp);

  struct Saved {
    TensorView qkv;  // [B, T, 3, H, D], q and k rotated
    TensorView out;  // [B, T, H, D], before the projection
    TensorView lse;  // f32 [B, H, T], in two parts
    TensorView lse_low;
  };
  Saved AllocateSaved(Arena& arena, int64_t batch, int64_t positions, DType compute) const;

  // z [B·T, C] compute dtype, its stream rows filled; x, y f32 [stream rows, C]: y = x + attention(z); entropy f32 [B, H, T]
  // is written; sums as TensorParallel::BeginSum.
  void Forward(Context& context, const ParamSet& params, const TensorView& z, const TensorView& x,
               const TensorView& y, const TensorView& sums, const TensorView& entropy,
               const Saved& saved) const;

  struct Scratch {
    TensorView
        branch;  // compute dtype [R, C]: ∂L/∂(what was added to the stream), an input; its stream rows filled
    TensorView out;   // compute dtype [R, C]
    TensorView qkv;   // compute dtype [R, 3C]
    TensorView sums;  // as TensorParallel::BeginSum
  };
  // dz f32 [stream rows, C]: overwritten, or added to when add_to_dz. entropy_gradient f32 [B, H, T] or empty.
  void Backward(Context& context, const ParamSet& params, const Saved& saved, const TensorView& z,
                const TensorView& entropy, const TensorView& entropy_gradient, const TensorView& dz,
                bool add_to_dz, const Scratch& scratch, bool accumulate) const;

  // Sampling: one position, the newest of `length`, against a cache of keys and values [capacity, H, D]; the new key and
  // value are put into it. z [1, C]; x, y f32 [1, C]; entropy f32 [H].
  struct Cache {
    TensorView keys;
    TensorView values;
  };
  void Decode(Context& context, const ParamSet& params, const TensorView& z, const TensorView& x,
              const TensorView& y, const TensorView& entropy, const Saved& saved,
              const Cache& cache, int64_t length) const;

 private:
  TensorView TemperatureOf(const ParamSet& params) const {
    return temperature_.valid() ? params.value(temperature_) : TensorView();
  }

  int64_t width_ = 0;  // of the heads here
  int64_t heads_ = 0;
  int64_t rotary_dims_ = 0;  // 0: positions are not rotary
  ColumnLinear qkv_;
  RowLinear projection_;
  ParamId temperature_;
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_ATTENTION_LAYER_H_
