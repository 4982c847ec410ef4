// Linear: y = x·W + b, with its gradients.
#ifndef ENTRAIN_MODEL_LINEAR_H_
#define ENTRAIN_MODEL_LINEAR_H_

#include <string>

#include "model/weight.h"

namespace entrain {

// Columns [begin, end) of a bias are trained; the others stay zero and get no gradient. begin = end: no bias at all.
struct BiasColumns {
  int64_t begin = 0;
  int64_t end = 0;
};

class Linear {
 public:
  Linear() = default;
  // Parameters `<name>.weight` (or its factors) and, with trained columns, `<name>.bias` [out].
  Linear(ParamSet& params, const std::string& name, int64_t in, int64_t out, float std,
         BiasColumns bias, WeightNorm norm = WeightNorm::kNone, NormAxis axis = NormAxis::kOutput);

  // y (+)= x·W + b. x [R, in] in the compute dtype, y [R, out] compute dtype or f32 (f32 when accumulate).
  void Forward(Context& context, const ParamSet& params, const TensorView& x, const TensorView& y,
               bool accumulate = false) const;

  struct Gradients {
    TensorView x;   // input of the forward
    TensorView dy;  // compute dtype [R, out]
    TensorView dx;  // [R, in]: overwritten, or (f32) added to when add_to_dx
    bool add_to_dx = false;
    bool accumulate = false;  // of the parameters' gradients: a later micro-step of a step
  };
  void Backward(Context& context, const ParamSet& params, const Gradients& gradients) const;

  Weight& weight() { return weight_; }
  const Weight& weight() const { return weight_; }

 private:
  Weight weight_;
  ParamId bias_;
  BiasColumns columns_;
};

}  // namespace entrain

#endif  // ENTRAIN_MODEL_LINEAR_H_
