// Moments of row entropies, a head at a time: what statistics and regulariser judge. They stay in the device's memory.
#ifndef ENTRAIN_RUNTIME_KERNELS_ENTROPY_MOMENTS_H_
#define ENTRAIN_RUNTIME_KERNELS_ENTROPY_MOMENTS_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// Of each layer and head over all rows that were seen. In this form a sum and a maximum, element by element, join those of
// different rows.
struct HeadMoments {
  TensorView sums;      // f64 [L, H, 2]: Σ H, Σ H²
  TensorView extremes;  // f32 [L, H, 2]: −min, max
};

// entropy f32 [L, B, H, T], not empty → moments, overwritten: over B and T in that order, in fp64.
void EntropyMoments(Context& context, const TensorView& entropy, const HeadMoments& moments);

// total becomes the moments of both.
void JoinMoments(Context& context, const HeadMoments& added, const HeadMoments& total);

// mean f32 [L, H] = Σ H / rows, rounded once; left as it is where `unless_nan` f32 [1] is NaN.
struct KeepMeansArgs {
  TensorView sums;
  int64_t rows = 0;
  TensorView unless_nan;
  TensorView mean;
};
void KeepMeans(Context& context, const KeepMeansArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ENTROPY_MOMENTS_H_
