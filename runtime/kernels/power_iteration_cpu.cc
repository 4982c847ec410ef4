#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/power_iteration.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

using simd::Float;

// Rows of a chunk of a column's sum, and columns of a task.
constexpr int64_t kChunkRows = 64;
constexpr int64_t kBlockColumns = 64;

double RowProduct(const float* x, const float* y, int64_t size) {
  simd::Double sum;
  simd::ForEachVector(size, [&](int64_t i, auto lanes) {
    sum += simd::ToDouble(lanes.Load(x + i)) * simd::ToDouble(lanes.Load(y + i));
  });
  return simd::HorizontalSum(sum);
}

// (W̄ᵀv) for the columns [begin, end), written to `product`; rows in chunks, chunk after chunk.
void ColumnBlockProduct(const TensorView& raw, const float* v, int64_t begin, int64_t end,
                        double* product) {
  for (int64_t first = 0; first < raw.dim(0); first += kChunkRows) {
    std::array<double, kBlockColumns> chunk = {};
    for (int64_t row = first; row < std::min(raw.dim(0), first + kChunkRows); ++row) {
      const float* x = raw.row<float>(row) + begin;
      for (int64_t i = 0; i < end - begin; ++i) chunk[i] += double{x[i]} * v[row];
    }
    for (int64_t i = 0; i < end - begin; ++i) product[i] += chunk[i];
  }
}

}  // namespace

void MatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                  const TensorView& out) {
  auto* product = out.data<double>();
  const auto* vector = x.data<float>();
  ParallelFor(context, raw.dim(0), [&](int64_t row) {
    product[row] = RowProduct(raw.row<float>(row), vector, raw.dim(1));
  });
}

void TransposedMatrixVector(Context& context, const TensorView& raw, const TensorView& x,
                            const TensorView& out) {
  auto* product = out.data<double>();
  const auto* vector = x.data<float>();
  ParallelForChunks(context, raw.dim(1), kBlockColumns, [&](int64_t begin, int64_t end) {
    std::fill(product + begin, product + end, 0.0);
    ColumnBlockProduct(raw, vector, begin, end, product + begin);
  });
}

void SquaredNorm(Context& /*context*/, const TensorView& x, const TensorView& square) {
  const auto* values = x.data<double>();
  double sum = 0.0;
  for (int64_t i = 0; i < x.size(); ++i) sum += values[i] * values[i];
  *square.data<double>() = sum;
}

void Normalize(Context& /*context*/, const NormalizeArgs& args) {
  const double norm = std::sqrt(*args.square.data<double>());
  const auto* x = args.x.data<double>();
  const float* if_zero = args.if_zero ? args.if_zero.data<float>() : nullptr;
  auto* out = args.out.data<float>();
  for (int64_t i = 0; i < args.x.size(); ++i) {
    if (norm != 0.0) {
      out[i] = static_cast<float>(x[i] / norm);
    } else {
      out[i] = if_zero != nullptr ? if_zero[i] : 0.0F;
    }
  }
  *args.norm.data<double>() = std::max(kMinSigma, norm);
}

void InnerProduct(Context& context, const TensorView& a, const TensorView& b,
                  const TensorView& product) {
  constexpr int64_t kChunk = 16384;
  const auto* x = a.data<float>();
  const auto* y = b.data<float>();
  *product.data<double>() = SumChunks(context, a.size(), kChunk, [&](int64_t begin, int64_t end) {
    return RowProduct(x + begin, y + begin, end - begin);
  });
}

void SpectralScale(Context& context, const TensorView& raw, const TensorView& sigma,
                   const TensorView& weight) {
  const auto factor = static_cast<float>(1.0 / *sigma.data<double>());
  DispatchFloat(weight.dtype(), [&]<typename T>(T) {
    ParallelFor(context, raw.dim(0), [&](int64_t row) {
      const float* from = raw.row<float>(row);
      T* to = weight.row<T>(row);
      simd::ForEachVector(raw.dim(1), [&](int64_t i, auto lanes) {
        lanes.Store(to + i, factor * lanes.Load(from + i));
      });
    });
  });
}

void SpectralBackward(Context& context, const SpectralBackwardArgs& args) {
  const double sigma = *args.sigma.data<double>();
  const auto inverse = static_cast<float>(1.0 / sigma);
  const auto outer = static_cast<float>(*args.product.data<double>() / (sigma * sigma));
  const auto* u = args.u.data<float>();
  const auto* v = args.v.data<float>();
  ParallelFor(context, args.dweight.dim(0), [&](int64_t row) {
    const float* dweight = args.dweight.row<float>(row);
    auto* draw = args.draw.row<float>(row);
    const float row_factor = outer * v[row];
    simd::ForEachVector(args.dweight.dim(1), [&](int64_t i, auto lanes) {
      lanes.Store(draw + i, inverse * lanes.Load(dweight + i) - row_factor * lanes.Load(u + i));
    });
  });
}

}  // namespace entrain::cpu
