#include "runtime/kernels/reduce.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void ColumnSum(Context& context, const ColumnSumArgs& args))
ENTRAIN_BACKENDS(double SumOfSquares(Context& context, const TensorView& x))
ENTRAIN_BACKENDS(void AddMean(Context& context, const AddMeanArgs& args))

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
  CheckDType("sum of squares x", x, DType::kF32);
  CheckDense("sum of squares x", x);
  ENTRAIN_DISPATCH(SumOfSquares, context, x);
}

void AddMean(Context& context, const AddMeanArgs& args) {
  CheckF32("mean x", args.x, {args.x.size()});
  CHECK_GT(args.x.size(), 0) << "mean of nothing";
  CheckF64("mean", args.out, 1);
  ENTRAIN_DISPATCH(AddMean, context, args);
}

}  // namespace entrain
