#include "runtime/kernels/cross_entropy.h"

#include "runtime/device/dispatch.h"
#include "runtime/kernels/operand.h"

namespace entrain {
ENTRAIN_BACKENDS(void SoftmaxStatistics(Context& context, const SoftmaxStatisticsArgs& args))
ENTRAIN_BACKENDS(void SoftmaxRescale(Context& context, const SoftmaxRescaleArgs& args))
ENTRAIN_BACKENDS(void CrossEntropy(Context& context, const CrossEntropyArgs& args))
ENTRAIN_BACKENDS(void WholeCrossEntropy(Context& context, const CrossEntropyArgs& args))
namespace {

void CheckVector(const char* name, const TensorView& vector, DType dtype, int64_t size) {
  CheckDType(name, vector, dtype);
  CheckDims(name, vector, {size});
}

// What both steps over the logits are given.
template <typename Args>
void CheckShared(const Args& args) {
  const int64_t rows = args.logits.rows(), width = args.logits.dim(-1);
  CheckFloat("cross-entropy logits", args.logits);
  CheckDims("cross-entropy logits", args.logits, {rows, width});
  CheckVector("cross-entropy targets", args.targets, DType::kI32, rows);
  CheckVector("cross-entropy max", args.max, DType::kF32, rows);
  CheckVector("cross-entropy sum", args.sum, DType::kF64, rows);
  CheckVector("cross-entropy target", args.target, DType::kF64, rows);
  CHECK(0 <= args.vocab.count && args.vocab.count <= width)
      << "cross-entropy: vocab " << args.vocab.count << " of " << width << " columns";
}

void CheckOperands(const CrossEntropyArgs& args) {
  CheckShared(args);
  CheckVector("cross-entropy loss", args.loss, DType::kF32, args.logits.rows());
  if (args.dlogits) {
    CheckFloat("cross-entropy dlogits", args.dlogits);
    CheckDims("cross-entropy dlogits", args.dlogits, {args.logits.rows(), args.logits.dim(-1)});
    const int64_t size = SizeOf(args.dlogits.dtype()), logit_size = SizeOf(args.logits.dtype());
    CHECK(args.dlogits.raw() == args.logits.raw() && size <= logit_size &&
          args.dlogits.row_stride() * size == args.logits.row_stride() * logit_size)
        << "cross-entropy dlogits must lie over logits, row by row: " << Describe(args.dlogits)
        << " over " << Describe(args.logits);
  }
}

}  // namespace

void SoftmaxStatistics(Context& context, const SoftmaxStatisticsArgs& args) {
  CheckShared(args);
  ENTRAIN_DISPATCH(SoftmaxStatistics, context, args);
}

void SoftmaxRescale(Context& context, const SoftmaxRescaleArgs& args) {
  CheckVector("softmax sum", args.sum, DType::kF64, args.sum.size());
  CheckVector("softmax maximum, from", args.from, DType::kF32, args.sum.size());
  CheckVector("softmax maximum, to", args.to, DType::kF32, args.sum.size());
  ENTRAIN_DISPATCH(SoftmaxRescale, context, args);
}

void CrossEntropy(Context& context, const CrossEntropyArgs& args) {
  CheckOperands(args);
  ENTRAIN_DISPATCH(CrossEntropy, context, args);
}

void WholeCrossEntropy(Context& context, const CrossEntropyArgs& args) {
  CheckOperands(args);
  ENTRAIN_DISPATCH(WholeCrossEntropy, context, args);
}

}  // namespace entrain
