// Sums.
#ifndef ENTRAIN_RUNTIME_KERNELS_REDUCE_H_
#define ENTRAIN_RUNTIME_KERNELS_REDUCE_H_

#include <vector>

#include "runtime/device/context.h"
#include "runtime/tensor/tensor_view.h"

namespace entrain {

// out[c] (+)= Σ_r x[r, c] for c in [begin, end); other elements of out are left alone. x f32 or bf16 [R, C], out f32 [C].
// A bias's gradient. Rows are summed in fp32 in chunks of a fixed number of rows, chunk after chunk.
struct ColumnSumArgs {
  TensorView x;
  TensorView out;
  int64_t begin = 0;
  int64_t end = 0;
  bool accumulate = false;
};
void ColumnSum(Context& context, const ColumnSumArgs& args);

// Σ x², x f32, dense; fp64 within chunks of fixed size, chunks in order. Not finite exactly when some x is not finite
// (or the sum leaves fp64).
double SumOfSquares(Context& context, const TensorView& x);
// The same of several, for which the host waits once.
std::vector<double> SumsOfSquares(Context& context, const std::vector<TensorView>& vectors);

// Sum, sum of squares, least and largest of each head's row entropies.
struct HeadMoments {
  double sum;
  double sum_of_squares;
  float min;
  float max;
};
// entropy f32 [L, B, H, T] → moments, a host array [L, H]: over B and T in that order, in fp64.
void EntropyMoments(Context& context, const TensorView& entropy, HeadMoments* moments);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_REDUCE_H_
