#include "parallel/sharded_power_iteration.h"

namespace entrain {

void ShardedPowerIteration::Step(Context& context, const TensorView& raw,
                                 const Vectors& vectors) const {
  const bool in_cut = cut_ == MatrixCut::kRows;
  const bool out_cut = cut_ == MatrixCut::kColumns;
  const TensorView square = vectors.sums.Slice(0, 1);
  const TensorView forward = vectors.sums.Slice(1, raw.dim(0));
  MatrixVector(context, raw, vectors.u, forward);
  if (out_cut) tp_.Sum(forward, "spectral norm");
  SquaredNorm(context, forward, square);
  if (in_cut) tp_.Sum(square, "spectral norm");
  Normalize(context, {.x = forward, .square = square, .out = vectors.v, .norm = vectors.sigma});

  const TensorView back = vectors.sums.Slice(1, raw.dim(1));
  TransposedMatrixVector(context, raw, vectors.v, back);
  if (in_cut) tp_.Sum(back, "spectral norm");
  SquaredNorm(context, back, square);
  if (out_cut) tp_.Sum(square, "spectral norm");
  Normalize(context, {.x = back,
                      .square = square,
                      .if_zero = vectors.u,
                      .out = vectors.next_u,
                      .norm = vectors.sigma});
}

void ShardedPowerIteration::Backward(Context& context, const TensorView& raw, const TensorView& u,
                                     const TensorView& v, const TensorView& sigma,
                                     const TensorView& scratch, const TensorView& dweight) const {
  const TensorView product = scratch.Slice(0, 1);
  InnerProduct(context, dweight, raw, product);
  if (cut_ != MatrixCut::kNone) tp_.Sum(product, "spectral norm");
  SpectralBackward(
      context,
      {.dweight = dweight, .u = u, .v = v, .sigma = sigma, .product = product, .draw = dweight});
}

}  // namespace entrain
