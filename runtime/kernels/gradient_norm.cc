#include "runtime/kernels/gradient_norm.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void SumsOfSquares(Context& context,
                                    const std::vector<std::vector<TensorView>>& groups,
                                    const TensorView& sums))
ENTRAIN_BACKENDS(void GradientScale(Context& context, const GradientScaleArgs& args))

void SumsOfSquares(Context& context, const std::vector<std::vector<TensorView>>& groups,
                   const TensorView& sums) {
  for (const std::vector<TensorView>& group : groups) {
    for (const TensorView& x : group) {
      CheckDType("sums of squares x", x, DType::kF32);
      CheckDense("sums of squares x", x);
    }
  }
  CheckF64("sums of squares", sums, static_cast<int64_t>(groups.size()));
  ENTRAIN_DISPATCH(SumsOfSquares, context, groups, sums);
}

void GradientScale(Context& context, const GradientScaleArgs& args) {
  CheckF64("gradient scale squares", args.squares, args.squares.size());
  CheckF64("gradient scale must_be_finite", args.must_be_finite, args.must_be_finite.size());
  CheckF64("gradient scale norm", args.norm, 1);
  CheckF32("gradient scale", args.scale, {1});
  ENTRAIN_DISPATCH(GradientScale, context, args);
}

}  // namespace entrain
