#include "runtime/kernels/row_norms.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void UnitProducts(Context& context, const TensorView& a, const TensorView& b,
                                   NormAxis axis, const TensorView& products))
ENTRAIN_BACKENDS(void NormsFromSquares(Context& context, const TensorView& squares,
                                       const TensorView& norms))
ENTRAIN_BACKENDS(void WeightNormForward(Context& context, const WeightNormForwardArgs& args))
ENTRAIN_BACKENDS(void WeightNormBackward(Context& context, const WeightNormBackwardArgs& args))
namespace {

void CheckV(const TensorView& v) { CheckF32("weight norm v", v, {v.dim(0), v.dim(1)}); }

int64_t NumUnits(const TensorView& v, NormAxis axis) {
  return v.dim(axis == NormAxis::kOutput ? 1 : 0);
}

void CheckProducts(const TensorView& products, int64_t units) {
  CheckDType("weight norm products", products, DType::kF64);
  CheckDims("weight norm products", products, {units});
}

}  // namespace

void UnitProducts(Context& context, const TensorView& a, const TensorView& b, NormAxis axis,
                  const TensorView& products) {
  CheckF32("unit products a", a, {a.dim(0), a.dim(1)});
  CheckF32("unit products b", b, {a.dim(0), a.dim(1)});
  CheckProducts(products, NumUnits(a, axis));
  ENTRAIN_DISPATCH(UnitProducts, context, a, b, axis, products);
}

void NormsFromSquares(Context& context, const TensorView& squares, const TensorView& norms) {
  CheckF32("weight norm norms", norms, {norms.size()});
  CheckProducts(squares, norms.size());
  ENTRAIN_DISPATCH(NormsFromSquares, context, squares, norms);
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
  CheckProducts(args.products, units);
  CheckF32("weight norm dv", args.dv, {args.v.dim(0), args.v.dim(1)});
  CheckF32("weight norm dg", args.dg, {units});
  ENTRAIN_DISPATCH(WeightNormBackward, context, args);
}

}  // namespace entrain
