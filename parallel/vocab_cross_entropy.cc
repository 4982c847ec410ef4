#include "parallel/vocab_cross_entropy.h"

#include "runtime/tensor/tensor_copy.h"

namespace entrain {

VocabCrossEntropy::Saved VocabCrossEntropy::AllocateSaved(Arena& arena, int64_t rows) {
  return {.local_max = arena.Allocate("largest logits here", DType::kF32, {rows}),
          .max = arena.Allocate("largest logits", DType::kF32, {rows}),
          .normalizer = arena.Allocate("softmax normalizers", DType::kF64, {2, rows})};
}

void VocabCrossEntropy::Run(Context& context, const Args& args, const Saved& saved) const {
  const int64_t rows = args.logits.rows();
  const TensorView local_max = saved.local_max.Slice(0, rows);
  const TensorView max = saved.max.Slice(0, rows);
  const TensorView sum = saved.normalizer.Slice(0, rows);
  const TensorView target = saved.normalizer.Slice(rows, rows);
  const CrossEntropyArgs joined = {.logits = args.logits,
                                   .targets = args.targets,
                                   .vocab = vocab_,
                                   .max = max,
                                   .sum = sum,
                                   .target = target,
                                   .loss = args.loss,
                                   .dlogits = args.dlogits,
                                   .scale = args.scale};
  // Nothing to join: a GPU need not read the logits again.
  if (tp_.size() == 1) return WholeCrossEntropy(context, joined);
  SoftmaxStatistics(context, {.logits = args.logits,
                              .targets = args.targets,
                              .vocab = vocab_,
                              .max = local_max,
                              .sum = sum,
                              .target = target});
  CopyTensor(context, local_max, max);
  tp_.Max(max, "largest logits");
  SoftmaxRescale(context, {.sum = sum, .from = local_max, .to = max});
  // One reduction for both: they lie side by side.
  tp_.Sum(saved.normalizer.Slice(0, 2 * rows), "softmax normalizers");
  CrossEntropy(context, joined);
}

}  // namespace entrain
