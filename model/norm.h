// NormLayer: LayerNorm with gain and bias, or nothing: then its output is the input in the compute dtype.
#ifndef ENTRAIN_MODEL_NORM_H_
#define ENTRAIN_MODEL_NORM_H_

#include <string>

#include "model/model_config.h"
#include "parallel/param_set.h"
#include "parallel/tensor_parallel.h"
#include "runtime/kernels/residual.h"
#include "runtime/tensor/arena.h"

namespace entrain {

// The residual stream between two layers: x f32 [stream rows, C]. Where `sum` has an f the last sum is not made yet, x being its
// `out`: the norm that reads the stream first makes it in passing. Its operands stay as they are until then.
struct ResidualStream {
  TensorView x;
  ResidualForwardArgs sum;

  bool pending() const { return static_cast<bool>(sum.f); }
  // For who reads x without a norm.
  void Complete(Context& context) const {
    if (pending()) ResidualForward(context, sum);
  }
};

class NormLayer {
 public:
  NormLayer() = default;
  // Parameters `<name>.weight` and `<name>.bias` [C], for LayerNorm.
  NormLayer(ParamSet& params, const std::string& name, Norm kind, int64_t width,
            const TensorParallel& tp);

  // What the backward needs. `out` is the normalised stream in the compute dtype [R, C]; only its stream rows are filled:
  // whoever multiplies it gathers the rest.
  struct Saved {
    TensorView out;
    TensorView mean;
    TensorView rstd;
  };
  Saved AllocateSaved(Arena& arena, int64_t rows, DType compute) const;

  // stream → saved.out, and x where that was pending. Without a norm in fp32, where all rows are here, saved.out becomes x
  // itself: no copy.
  void Forward(Context& context, const ParamSet& params, const ResidualStream& stream,
               Saved& saved) const;

  // Where the gradient of `out` is to be put: straight into the stream's gradient dx (added) when there is no norm, else
  // into `scratch` f32 [stream rows, C], which Backward then takes through the norm and adds to dx (or puts there, when
  // !add_to_dx). dx_copy, [stream rows, C] of any float dtype, or empty: becomes dx as it then is.
  bool is_none() const { return kind_ == Norm::kNone; }
  const TensorView& GradientTarget(const TensorView& dx, const TensorView& scratch) const {
    return is_none() ? dx : scratch;
  }
  struct Gradients {
    TensorView scratch;
    TensorView dx;
    TensorView dx_copy;
    bool add_to_dx = true;
    bool accumulate = false;  // of the parameters' gradients
  };
  void Backward(Context& context, const ParamSet& params, const TensorView& x, const Saved& saved,
                const Gradients& gradients) const;

 private:
  TensorParallel tp_;
  Norm kind_ = Norm::kNone;
  int64_t width_ = 0;
  ParamId gain_;
  ParamId bias_;
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_NORM_H_
