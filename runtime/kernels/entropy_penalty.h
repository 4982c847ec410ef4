// From row entropies to the gradient that attention's backward takes. Source: EGA (arXiv 2501.03489), Algorithm 1 and its
// listing.
#ifndef ENTRAIN_RUNTIME_KERNELS_ENTROPY_PENALTY_H_
#define ENTRAIN_RUNTIME_KERNELS_ENTROPY_PENALTY_H_

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// Sums over the rows (b, i) of one head.
struct HeadPenalty {
  double penalty = 0.0;             // Σ δ²·gate
  double open_rows = 0.0;           // Σ gate
  double threshold_gradient = 0.0;  // Σ −max_entropy_i · gradient_i
};

// Query granularity. entropy f32 [B, H, T]; threshold f32 [H]; max_entropy: host array of T.
//   δ = entropy − θ_h·max_i;  gate = |δ| > margin·max_i;  gradient f32 [B, H, T] = scale·δ·gate (empty: not wanted)
// sums[H] are overwritten; fp64, over b then i in order.
struct RowPenaltyArgs {
  TensorView entropy;
  TensorView threshold;
  TensorView gradient;
  const double* max_entropy = nullptr;
  double margin = 0.0;
  double scale = 0.0;
};
void RowPenalty(Context& context, const RowPenaltyArgs& args, HeadPenalty* sums);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_ENTROPY_PENALTY_H_
