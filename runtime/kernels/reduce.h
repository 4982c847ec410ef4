// Sums.
#ifndef ENTRAIN_RUNTIME_KERNELS_REDUCE_H_
#define ENTRAIN_RUNTIME_KERNELS_REDUCE_H_

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
// (or the sum leaves fp64). The host waits for it: see gradient_norm.h for one that it need not know.
double SumOfSquares(Context& context, const TensorView& x);

// out f64 [1] (+)= scale · mean of x, f32, dense, not empty: a step's loss from those of rows. The sum is in fp64, in an order of
// the backend's.
struct AddMeanArgs {
  TensorView x;
  double scale = 1.0;
  TensorView out;
  bool accumulate = false;
};
void AddMean(Context& context, const AddMeanArgs& args);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_REDUCE_H_
