#include "runtime/kernels/cross_entropy.h"

#include "runtime/kernels/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
namespace cpu {
void CrossEntropy(Context& context, const CrossEntropyArgs& args);
}  // namespace cpu

void CrossEntropy(Context& context, const CrossEntropyArgs& args) {
  const int64_t rows = args.logits.rows(), width = args.logits.dim(-1);
  CheckDType("cross-entropy logits", args.logits, DType::kF32);
  CheckDims("cross-entropy logits", args.logits, {rows, width});
  CheckDType("cross-entropy targets", args.targets, DType::kI32);
  CheckDims("cross-entropy targets", args.targets, {rows});
  CheckF32("cross-entropy loss", args.loss, {rows});
  CHECK(0 < args.vocab && args.vocab <= width)
      << "cross-entropy: vocab " << args.vocab << " of " << width << " columns";
  if (args.dlogits) {
    CheckFloat("cross-entropy dlogits", args.dlogits);
    CheckDims("cross-entropy dlogits", args.dlogits, {rows, width});
    CHECK(args.dlogits.raw() == args.logits.raw() &&
          args.dlogits.row_stride() * SizeOf(args.dlogits.dtype()) ==
              args.logits.row_stride() * SizeOf(DType::kF32))
        << "cross-entropy dlogits must lie over logits, row by row: " << Describe(args.dlogits)
        << " over " << Describe(args.logits);
  }
  ENTRAIN_DISPATCH(CrossEntropy, context, args);
}

}  // namespace entrain
