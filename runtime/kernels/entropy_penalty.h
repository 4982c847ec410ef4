// From entropies to a penalty, and to the gradient that attention's backward takes. Source: EGA (arXiv 2501.03489), Algorithm 1
// and its listing.
//
//   δ = entropy − θ·max;  gate = |δ| > margin·max;  penalty δ²·gate;  gradient 2·strength/count · δ·gate
//
// of a head's mean (head granularity) or of each row (query granularity). All arithmetic is fp64. Everything stays in the
// device's memory, the strength too, which changes from step to step.
#ifndef ENTRAIN_RUNTIME_KERNELS_ENTROPY_PENALTY_H_
#define ENTRAIN_RUNTIME_KERNELS_ENTROPY_PENALTY_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// Head granularity, the heads of all layers. A head's mean is sums[l, h, 0]/rows (sums f64 [L, H, 2], as HeadMoments), or
// mean f32 [L, H] where there are no sums.
struct HeadPenaltyArgs {
  TensorView sums;
  int64_t rows = 0;
  TensorView mean;
  TensorView threshold;      // f32 [L, H], any row stride
  double max_entropy = 0.0;  // of a mean
  double margin = 0.0;
  TensorView strength;  // f64 [1]
  int64_t count = 1;
  int64_t gradient_rows = 1;  // rows that get the gradient: all of a head's
  TensorView gradient;        // f32 [L, H], overwritten
  // f32 [L, H], any row stride: −max·gradient·gradient_rows, overwritten or added to when `accumulate`, rounded once
  TensorView threshold_gradient;
  bool accumulate = false;
  TensorView
      measured;  // f64 [1 + L·H], added to: Σ δ²·gate over all heads in order; each head's gate
};
void HeadPenalty(Context& context, const HeadPenaltyArgs& args);

// Query granularity, the rows of all layers: only what is measured. entropy f32 [L, B, H, T], threshold f32 [L, H], any row
// stride, max_entropy f64 [T].
struct RowPenaltyArgs {
  TensorView entropy;
  TensorView threshold;
  TensorView max_entropy;
  double margin = 0.0;
  TensorView measured;  // f64 [1 + L·H], added to: Σ δ²·gate over all rows; each head's open rows
};
void RowPenalty(Context& context, const RowPenaltyArgs& args);

// Query granularity, one layer: the gradients. entropy f32 [B, H, T], threshold f32 [H].
struct RowPenaltyGradientArgs {
  TensorView entropy;
  TensorView threshold;
  TensorView max_entropy;
  double margin = 0.0;
  TensorView strength;  // f64 [1]
  int64_t count = 1;
  TensorView gradient;            // f32 [B, H, T], overwritten
  TensorView threshold_gradient;  // f32 [H]: Σ −max_i·gradient_i, over b then i; as above
  bool accumulate = false;
};
void RowPenaltyGradient(Context& context, const RowPenaltyGradientArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ENTROPY_PENALTY_H_
