#include "runtime/kernels/row_norms.h"

#include "runtime/kernels/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
namespace cpu {
void UnitNorms(Context& context, const TensorView& v, NormAxis axis, const TensorView& norms);
void WeightNormForward(Context& context, const WeightNormForwardArgs& args);
void WeightNormBackward(Context& context, const WeightNormBackwardArgs& args);
}  // namespace cpu
namespace {

void CheckV(const TensorView& v) { CheckF32("weight norm v", v, {v.dim(0), v.dim(1)}); }

int64_t NumUnits(const TensorView& v, NormAxis axis) {
  return v.dim(axis == NormAxis::kOutput ? 1 : 0);
}

}  // namespace

void UnitNorms(Context& context, const TensorView& v, NormAxis axis, const TensorView& norms) {
  CheckV(v);
  CheckF32("weight norm norms", norms, {NumUnits(v, axis)});
  ENTRAIN_DISPATCH(UnitNorms, context, v, axis, norms);
}

void WeightNormForward(Context& context, const WeightNormForwardArgs& args) {
  CheckV(args.v);
  const int64_t units = NumUnits(args.v, args.axis);
  CheckF32("weight norm g", args.g, {units});
  CheckF32("weight norm norms", args.norms, {units});
  CheckFloat("weight norm weight", args.weight, {args.v.dim(0), args.v.dim(1)});
  ENTRAIN_DISPATCH(WeightNormForward, context, args);
}

void WeightNormBackward(Context& context, const WeightNormBackwardArgs& args) {
  CheckV(args.v);
  const int64_t units = NumUnits(args.v, args.axis);
  CheckF32("weight norm dweight", args.dweight, {args.v.dim(0), args.v.dim(1)});
  CheckF32("weight norm g", args.g, {units});
  CheckF32("weight norm norms", args.norms, {units});
  CheckF32("weight norm dv", args.dv, {args.v.dim(0), args.v.dim(1)});
  CheckF32("weight norm dg", args.dg, {units});
  ENTRAIN_DISPATCH(WeightNormBackward, context, args);
}

}  // namespace entrain
