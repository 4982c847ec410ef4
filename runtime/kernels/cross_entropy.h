// Cross-entropy and its gradient over the columns of the vocabulary that a rank holds. The logits become their own
// gradient, in place. In three steps, so that ranks with other columns can join in between; max, sum and target then are
// those of all columns.
#ifndef ENTRAIN_RUNTIME_KERNELS_CROSS_ENTROPY_H_
#define ENTRAIN_RUNTIME_KERNELS_CROSS_ENTROPY_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// Columns [0, count) of the logits are the tokens [first_token, first_token + count); the others are padding.
struct VocabRange {
  int64_t first_token = 0;
  int64_t count = 0;
};

// logits f32 or bf16 [R, Vp]; targets i32 [R], tokens. Arithmetic is fp32 either way. Writes, a row: max f32 [R], the largest logit (the least float without
// columns); sum f64 [R], Σ exp(logit − max); target f64 [R], the target's logit, 0 where it is not among these columns.
// Sums run over blocks of 1,024 columns, block after block.
struct SoftmaxStatisticsArgs {
  TensorView logits;
  TensorView targets;
  VocabRange vocab;
  TensorView max;
  TensorView sum;
  TensorView target;
};
void SoftmaxStatistics(Context& context, const SoftmaxStatisticsArgs& args);

// sum f64 [R] *= exp(from − to), from and to f32 [R]: sums relative to one maximum as sums relative to another.
struct SoftmaxRescaleArgs {
  TensorView sum;
  TensorView from;
  TensorView to;
};
void SoftmaxRescale(Context& context, const SoftmaxRescaleArgs& args);

// loss f32 [R]: max + log(sum) − target, in nats.
// dlogits: empty (loss only), or [R, Vp] over the same memory as logits: of their type with the same row stride, or bf16 over f32
// with twice the row stride in elements. Written as scale · (softmax − onehot); padding columns become 0.
struct CrossEntropyArgs {
  TensorView logits;
  TensorView targets;
  VocabRange vocab;
  TensorView max;
  TensorView sum;
  TensorView target;
  TensorView loss;
  TensorView dlogits;
  float scale = 1.0F;

  // What comes before, over the same columns.
  SoftmaxStatisticsArgs statistics() const {
    return {.logits = logits,
            .targets = targets,
            .vocab = vocab,
            .max = max,
            .sum = sum,
            .target = target};
  }
};
void CrossEntropy(Context& context, const CrossEntropyArgs& args);

// SoftmaxStatistics and CrossEntropy in one, where these columns are the whole vocabulary. max, sum and target are for the op's own
// use: what they hold afterwards is undefined.
void WholeCrossEntropy(Context& context, const CrossEntropyArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_CROSS_ENTROPY_H_
