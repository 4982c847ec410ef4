#include "parallel/sharded_row_norms.h"

#include <vector>

namespace entrain {
namespace {

// Σ a∘b of every unit, over all ranks that have a part of it.
class Products {
 public:
  Products(Context& context, const TensorParallel& tp, bool spread, const TensorView& a,
           const TensorView& b, NormAxis axis)
      : sums_(static_cast<size_t>(a.dim(axis == NormAxis::kOutput ? 1 : 0))) {
    UnitProducts(context, a, b, axis, view());
    if (spread) tp.Sum(view(), "weight norm");
  }
  TensorView view() { return {sums_.data(), DType::kF64, {static_cast<int64_t>(sums_.size())}}; }

 private:
  std::vector<double> sums_;
};

}  // namespace

void ShardedRowNorms::Norms(Context& context, const TensorView& v, const TensorView& norms) const {
  NormsFromSquares(context, Products(context, tp_, spread_, v, v, axis_).view(), norms);
}

void ShardedRowNorms::Forward(Context& context, const TensorView& v, const TensorView& g,
                              const TensorView& norms, const TensorView& weight) const {
  Norms(context, v, norms);
  WeightNormForward(context, {.v = v, .g = g, .norms = norms, .axis = axis_, .weight = weight});
}

void ShardedRowNorms::Backward(Context& context, const TensorView& v, const TensorView& g,
                               const TensorView& norms, const Gradients& gradients) const {
  Products products(context, tp_, spread_, gradients.dweight, v, axis_);
  WeightNormBackward(context, {.dweight = gradients.dweight,
                               .v = v,
                               .g = g,
                               .norms = norms,
                               .products = products.view(),
                               .axis = axis_,
                               .dv = gradients.dv,
                               .dg = gradients.dg});
}

}  // namespace entrain
