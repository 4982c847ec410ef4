#include "runtime/kernels/entropy_penalty.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void HeadPenalty(Context& context, const HeadPenaltyArgs& args))
ENTRAIN_BACKENDS(void RowPenalty(Context& context, const RowPenaltyArgs& args))
ENTRAIN_BACKENDS(void RowPenaltyGradient(Context& context, const RowPenaltyGradientArgs& args))

namespace {

void CheckHeads(const char* name, const TensorView& view, int64_t layers, int64_t heads) {
  CheckDType(name, view, DType::kF32);
  CheckDims(name, view, {layers, heads});
}

}  // namespace

void HeadPenalty(Context& context, const HeadPenaltyArgs& args) {
  const int64_t layers = args.gradient.dim(0);
  const int64_t heads = args.gradient.dim(1);
  CheckF32("head penalty gradient", args.gradient, {layers, heads});
  CHECK(args.sums ? !args.mean && args.rows > 0 : static_cast<bool>(args.mean))
      << "head penalty: of sums over rows, or of means";
  if (args.sums) CheckF64("head penalty sums", args.sums, 2 * layers * heads);
  if (args.mean) CheckF32("head penalty mean", args.mean, {layers, heads});
  CheckHeads("head penalty threshold", args.threshold, layers, heads);
  CheckHeads("head penalty threshold_gradient", args.threshold_gradient, layers, heads);
  CheckF64("head penalty strength", args.strength, 1);
  CheckF64("head penalty measured", args.measured, 1 + layers * heads);
  ENTRAIN_DISPATCH(HeadPenalty, context, args);
}

void RowPenalty(Context& context, const RowPenaltyArgs& args) {
  const TensorView& entropy = args.entropy;
  CHECK_EQ(entropy.num_dims(), 4) << "row penalty: " << Describe(entropy);
  CheckDType("row penalty entropy", entropy, DType::kF32);
  CheckDense("row penalty entropy", entropy);
  CheckHeads("row penalty threshold", args.threshold, entropy.dim(0), entropy.dim(2));
  CheckF64("row penalty max_entropy", args.max_entropy, entropy.dim(3));
  CheckF64("row penalty measured", args.measured, 1 + entropy.dim(0) * entropy.dim(2));
  ENTRAIN_DISPATCH(RowPenalty, context, args);
}

void RowPenaltyGradient(Context& context, const RowPenaltyGradientArgs& args) {
  const TensorView& entropy = args.entropy;
  CHECK_EQ(entropy.num_dims(), 3) << "row penalty gradient: " << Describe(entropy);
  CheckF32("row penalty entropy", entropy, {entropy.dim(0), entropy.dim(1), entropy.dim(2)});
  CheckF32("row penalty gradient", args.gradient, {entropy.dim(0), entropy.dim(1), entropy.dim(2)});
  CheckF32("row penalty threshold", args.threshold, {entropy.dim(1)});
  CheckF32("row penalty threshold_gradient", args.threshold_gradient, {entropy.dim(1)});
  CheckF64("row penalty max_entropy", args.max_entropy, entropy.dim(2));
  CheckF64("row penalty strength", args.strength, 1);
  ENTRAIN_DISPATCH(RowPenaltyGradient, context, args);
}

}  // namespace entrain
