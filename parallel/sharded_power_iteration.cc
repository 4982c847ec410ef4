#include "parallel/sharded_power_iteration.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace entrain {
namespace {

TensorView ViewOf(std::vector<double>& values) {
  return {values.data(), DType::kF64, {static_cast<int64_t>(values.size())}};
}

TensorView ViewOf(double& value) { return {&value, DType::kF64, {1}}; }

// out f32 = x/norm, or zero with it.
void Normalize(const std::vector<double>& x, double norm, const TensorView& out) {
  std::transform(x.begin(), x.end(), out.data<float>(), [norm](double value) {
    return norm == 0.0 ? 0.0F : static_cast<float>(value / norm);
  });
}

}  // namespace

double ShardedPowerIteration::Norm(const TensorView& x, bool is_cut) const {
  const auto* values = x.data<double>();
  double square = 0.0;
  for (int64_t i = 0; i < x.size(); ++i) square += values[i] * values[i];
  if (is_cut) tp_.Sum(ViewOf(square), "spectral norm");
  return std::sqrt(square);
}

double ShardedPowerIteration::Step(Context& context, const TensorView& raw,
                                   const Vectors& vectors) const {
  const bool in_cut = cut_ == MatrixCut::kRows;
  const bool out_cut = cut_ == MatrixCut::kColumns;
  std::vector<double> forward(static_cast<size_t>(raw.dim(0)));
  MatrixVector(context, raw, vectors.u, ViewOf(forward));
  if (out_cut) tp_.Sum(ViewOf(forward), "spectral norm");
  Normalize(forward, Norm(ViewOf(forward), in_cut), vectors.v);

  std::vector<double> back(static_cast<size_t>(raw.dim(1)));
  TransposedMatrixVector(context, raw, vectors.v, ViewOf(back));
  if (in_cut) tp_.Sum(ViewOf(back), "spectral norm");
  const double sigma = Norm(ViewOf(back), out_cut);
  if (sigma != 0.0) {
    Normalize(back, sigma, vectors.next_u);
  } else if (vectors.next_u.raw() != vectors.u.raw()) {
    std::memcpy(vectors.next_u.raw(), vectors.u.raw(), static_cast<size_t>(vectors.u.bytes()));
  }
  return sigma;
}

void ShardedPowerIteration::Backward(Context& context, const TensorView& raw, const TensorView& u,
                                     const TensorView& v, double sigma,
                                     const TensorView& dweight) const {
  double product = InnerProduct(context, dweight, raw);
  if (cut_ != MatrixCut::kNone) tp_.Sum(ViewOf(product), "spectral norm");
  SpectralBackward(
      context,
      {.dweight = dweight, .u = u, .v = v, .sigma = sigma, .product = product, .draw = dweight});
}

}  // namespace entrain
