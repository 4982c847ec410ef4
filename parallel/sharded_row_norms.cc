#include "parallel/sharded_row_norms.h"

namespace entrain {

void ShardedRowNorms::Products(Context& context, const TensorView& a, const TensorView& b,
                               const TensorView& sums) const {
  UnitProducts(context, a, b, axis_, sums);
  if (spread_) tp_.Sum(sums, "weight norm");
}

void ShardedRowNorms::Norms(Context& context, const TensorView& v, const TensorView& sums,
                            const TensorView& norms) const {
  Products(context, v, v, sums);
  NormsFromSquares(context, sums, norms);
}

void ShardedRowNorms::Forward(Context& context, const TensorView& v, const TensorView& g,
                              const TensorView& sums, const TensorView& norms,
                              const TensorView& weight) const {
  Norms(context, v, sums, norms);
  WeightNormForward(context, {.v = v, .g = g, .norms = norms, .axis = axis_, .weight = weight});
}

void ShardedRowNorms::Backward(Context& context, const TensorView& v, const TensorView& g,
                               const TensorView& sums, const TensorView& norms,
                               const Gradients& gradients) const {
  Products(context, gradients.dweight, v, sums);
  WeightNormBackward(context, {.dweight = gradients.dweight,
                               .v = v,
                               .g = g,
                               .norms = norms,
                               .products = sums,
                               .axis = axis_,
                               .dv = gradients.dv,
                               .dg = gradients.dg});
}

}  // namespace entrain
