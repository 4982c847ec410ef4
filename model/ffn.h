// FfnLayer: act(z·W_in + b_in)·W_out + b_out, or the fused z·W + b, with its learnable scales α and β on the way out.
//
// Over tp, W_in is cut by columns and W_out by rows, so that the hidden layer is cut and one sum joins the stream. The fused
// W has no hidden layer: it is whole on every rank, and each multiplies its share of the rows. Then nothing is summed over ranks
// on the way (rows are gathered, where the stream is whole), and W's gradient, partial, is summed once a step. F below is
// this rank's.
#ifndef ENTRAIN_MODEL_FFN_H_
#define ENTRAIN_MODEL_FFN_H_

#include <string>
#include <vector>

#include "model/model_config.h"
#include "model/norm.h"
#include "parallel/linear.h"

namespace entrain {

class FfnLayer {
 public:
  FfnLayer() = default;
  // Parameters `<name>.c_fc`, `<name>.c_proj` or `<name>.c_fused`, and `<name>.alpha`, `<name>.beta` [1] with ffn_scaling.
  FfnLayer(ParamSet& params, const std::string& name, const ModelConfig& config,
           const TensorParallel& tp);

  struct Saved {
    TensorView hidden;     // before the activation [R, F]
    TensorView activated;  // after it; the same memory as hidden for `identity`
    TensorView out;        // f, f32 [stream rows, C], kept only for α's gradient
  };
  Saved AllocateSaved(Arena& arena, int64_t rows, DType compute) const;

  // z [R, C] compute dtype, its stream rows filled; y, out f32 [stream rows, C]: out = β·y + (1/α)·FFN(z), which is left pending
  // where there are scales. out must not alias y; sums as TensorParallel::BeginSum.
  ResidualStream Forward(Context& context, const ParamSet& params, const TensorView& z,
                         const TensorView& y, const TensorView& out, const TensorView& sums,
                         const Saved& saved) const;

  struct Scratch {
    TensorView branch;  // compute dtype [R, C]
    TensorView hidden;  // compute dtype [R, F]
    TensorView sums;    // as TensorParallel::BeginSum
  };
  // First half: dx f32 [stream rows, C] holds ∂L/∂out and becomes ∂L/∂y = β·dx; scratch.branch's stream rows become ∂L/∂f.
  // Without scales both are ∂L/∂out: there is nothing to do where scratch.branch has it already.
  void BackwardScales(Context& context, const ParamSet& params, const Saved& saved,
                      const TensorView& y, const TensorView& dx, const Scratch& scratch,
                      bool accumulate) const;
  // Second half: from scratch.branch to dz f32 [stream rows, C] (overwritten, or added to when add_to_dz).
  void BackwardBranch(Context& context, const ParamSet& params, const Saved& saved,
                      const TensorView& z, const TensorView& dz, bool add_to_dz,
                      const Scratch& scratch, bool accumulate) const;

  // The matrices, for the step's re-parameterisation.
  std::vector<Weight*> weights();
  std::vector<const Weight*> weights() const;

  bool scaled() const { return alpha_.valid(); }

 private:
  bool fused() const { return kind_ == Ffn::kFused; }
  bool has_activation() const { return kind_ == Ffn::kGelu || kind_ == Ffn::kRelu; }
  // f = FFN(z) [+ addend], f32 with the stream's rows.
  void ForwardBranch(Context& context, const ParamSet& params, const TensorView& z,
                     const TensorView& addend, const TensorView& f, const TensorView& sums,
                     const Saved& saved) const;
  void BackwardFused(Context& context, const ParamSet& params, const TensorView& z,
                     const TensorView& df, const TensorView& dz, bool add_to_dz,
                     bool accumulate) const;

  TensorParallel tp_;
  Ffn kind_ = Ffn::kGelu;
  int64_t width_ = 0;
  int64_t ffn_width_ = 0;  // here
  Linear fused_;
  ColumnLinear in_;
  RowLinear out_;
  ParamId alpha_;
  ParamId beta_;
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_FFN_H_
