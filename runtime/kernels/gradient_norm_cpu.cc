#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/kernels/gradient_norm.h"
#include "runtime/kernels/reduce.h"

namespace entrain::cpu {

void SumsOfSquares(Context& context, const std::vector<std::vector<TensorView>>& groups,
                   const TensorView& sums) {
  auto* sum = sums.data<double>();
  for (const std::vector<TensorView>& group : groups) {
    *sum = 0.0;
    for (const TensorView& x : group) *sum += SumOfSquares(context, x);
    ++sum;
  }
}

void GradientScale(Context& /*context*/, const GradientScaleArgs& args) {
  double squares = 0.0;
  for (int64_t i = 0; i < args.squares.size(); ++i) squares += args.squares.data<double>()[i];
  const double norm = std::sqrt(squares);
  bool finite = std::isfinite(norm);
  for (int64_t i = 0; i < args.must_be_finite.size(); ++i) {
    finite = finite && std::isfinite(args.must_be_finite.data<double>()[i]);
  }
  const double scale = args.clip > 0.0 ? std::min(1.0, args.clip / (norm + 1e-6)) : 1.0;
  *args.norm.data<double>() = norm;
  *args.scale.data<float>() =
      finite ? static_cast<float>(scale) : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace entrain::cpu
