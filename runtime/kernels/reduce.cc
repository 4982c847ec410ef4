#include "runtime/kernels/reduce.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void ColumnSum(Context& context, const ColumnSumArgs& args))
ENTRAIN_BACKENDS(std::vector<double> SumsOfSquares(Context& context,
                                                   const std::vector<TensorView>& vectors))
ENTRAIN_BACKENDS(void EntropyMoments(Context& context, const TensorView& entropy,
                                     HeadMoments* moments))

void ColumnSum(Context& context, const ColumnSumArgs& args) {
  const int64_t width = args.x.dim(-1);
  CheckFloat("column sum x", args.x);
  CheckDims("column sum x", args.x, {args.x.rows(), width});
  CheckF32("column sum out", args.out, {width});
  CHECK(0 <= args.begin && args.begin <= args.end && args.end <= width)
      << "column sum over [" << args.begin << ", " << args.end << ") of " << width << " columns";
  ENTRAIN_DISPATCH(ColumnSum, context, args);
}

double SumOfSquares(Context& context, const TensorView& x) {
  return SumsOfSquares(context, {x}).front();
}

std::vector<double> SumsOfSquares(Context& context, const std::vector<TensorView>& vectors) {
  for (const TensorView& x : vectors) {
    CheckDType("sum of squares x", x, DType::kF32);
    CheckDense("sum of squares x", x);
  }
  ENTRAIN_DISPATCH(SumsOfSquares, context, vectors);
}

void EntropyMoments(Context& context, const TensorView& entropy, HeadMoments* moments) {
  CHECK_EQ(entropy.num_dims(), 4) << "entropy moments: " << Describe(entropy);
  CheckF32("entropy", entropy, {entropy.dim(0), entropy.dim(1), entropy.dim(2), entropy.dim(3)});
  CHECK_GT(entropy.dim(1) * entropy.dim(3), 0) << "entropy moments: no rows";
  ENTRAIN_DISPATCH(EntropyMoments, context, entropy, moments);
}

}  // namespace entrain
