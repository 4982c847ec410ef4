#include "parallel/sharded_power_iteration.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/tensor/tensor_copy.h"

namespace entrain {
namespace {

// out f32 = x/norm, or zero with it.
void Normalize(Context& context, const std::vector<double>& x, double norm, const TensorView& out) {
  std::vector<float> unit(x.size());
  std::transform(x.begin(), x.end(), unit.begin(), [norm](double value) {
    return norm == 0.0 ? 0.0F : static_cast<float>(value / norm);
  });
  FromHost(context, unit.data(), out);
}

TensorView First(const TensorView& sums, int64_t count) {
  CHECK_LE(count, sums.size());
  return {sums.raw(), DType::kF64, {count}};
}

}  // namespace

double ShardedPowerIteration::Norm(const std::vector<double>& x, bool is_cut) const {
  double square = 0.0;
  for (const double value : x) square += value * value;
  if (is_cut) tp_.SumOnHost({&square, 1}, "spectral norm");
  return std::sqrt(square);
}

double ShardedPowerIteration::Step(Context& context, const TensorView& raw,
                                   const Vectors& vectors) const {
  const bool in_cut = cut_ == MatrixCut::kRows;
  const bool out_cut = cut_ == MatrixCut::kColumns;
  const TensorView forward_sums = First(vectors.sums, raw.dim(0));
  MatrixVector(context, raw, vectors.u, forward_sums);
  if (out_cut) tp_.Sum(forward_sums, "spectral norm");
  const std::vector<double> forward = ToHost<double>(context, forward_sums);
  Normalize(context, forward, Norm(forward, in_cut), vectors.v);

  const TensorView back_sums = First(vectors.sums, raw.dim(1));
  TransposedMatrixVector(context, raw, vectors.v, back_sums);
  if (in_cut) tp_.Sum(back_sums, "spectral norm");
  const std::vector<double> back = ToHost<double>(context, back_sums);
  const double sigma = Norm(back, out_cut);
  if (sigma != 0.0) {
    Normalize(context, back, sigma, vectors.next_u);
  } else if (vectors.next_u.raw() != vectors.u.raw()) {
    CopyTensor(context, vectors.u, vectors.next_u);
  }
  return sigma;
}

void ShardedPowerIteration::Backward(Context& context, const TensorView& raw, const TensorView& u,
                                     const TensorView& v, double sigma,
                                     const TensorView& dweight) const {
  double product = InnerProduct(context, dweight, raw);
  if (cut_ != MatrixCut::kNone) tp_.SumOnHost({&product, 1}, "spectral norm");
  SpectralBackward(
      context,
      {.dweight = dweight, .u = u, .v = v, .sigma = sigma, .product = product, .draw = dweight});
}

}  // namespace entrain
