// FfnLayer: act(z·W_in + b_in)·W_out + b_out, or the fused z·W + b, with its learnable scales α and β on the way out.
#ifndef ENTRAIN_MODEL_FFN_H_
#define ENTRAIN_MODEL_FFN_H_

#include <string>
#include <vector>

#include "model/linear.h"
#include "model/model_config.h"

namespace entrain {

class FfnLayer {
 public:
  FfnLayer() = default;
  // Parameters `<name>.c_fc`, `<name>.c_proj` or `<name>.c_fused`, and `<name>.alpha`, `<name>.beta` [1] with ffn_scaling.
  FfnLayer(ParamSet& params, const std::string& name, const ModelConfig& config);

  struct Saved {
    TensorView hidden;     // before the activation [R, F]
    TensorView activated;  // after it; the same memory as hidden for `identity`
    TensorView out;        // f, f32 [R, C], kept only for α's gradient
  };
  Saved AllocateSaved(Arena& arena, int64_t rows, DType compute) const;

  // z [R, C] compute dtype; y, out f32 [R, C]: out = β·y + (1/α)·FFN(z). out must not alias y.
  void Forward(Context& context, const ParamSet& params, const TensorView& z, const TensorView& y,
               const TensorView& out, const Saved& saved) const;

  struct Scratch {
    TensorView branch;  // compute dtype [R, C]
    TensorView hidden;  // compute dtype [R, F]
  };
  // First half: dx f32 [R, C] holds ∂L/∂out and becomes ∂L/∂y = β·dx; scratch.branch becomes ∂L/∂f.
  void BackwardScales(Context& context, const ParamSet& params, const Saved& saved,
                      const TensorView& y, const TensorView& dx, const Scratch& scratch,
                      bool accumulate) const;
  // Second half: from scratch.branch to dz f32 [R, C] (overwritten, or added to when add_to_dz).
  void BackwardBranch(Context& context, const ParamSet& params, const Saved& saved,
                      const TensorView& z, const TensorView& dz, bool add_to_dz,
                      const Scratch& scratch, bool accumulate) const;

  // The matrices, for the step's re-parameterisation.
  std::vector<Linear*> linears();
  std::vector<const Linear*> linears() const;

 private:
  bool fused() const { return kind_ == Ffn::kFused; }
  bool scaled() const { return alpha_.valid(); }
  bool has_activation() const { return kind_ == Ffn::kGelu || kind_ == Ffn::kRelu; }

  Ffn kind_ = Ffn::kGelu;
  int64_t width_ = 0;
  int64_t ffn_width_ = 0;
  Linear in_;   // c_fc, or c_fused
  Linear out_;  // c_proj
  ParamId alpha_;
  ParamId beta_;
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_FFN_H_
