#include <algorithm>
#include <array>

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

double InnerProduct(Context& context, const TensorView& a, const TensorView& b) {
  constexpr int64_t kChunk = 16384;
  const auto* x = a.data<float>();
  const auto* y = b.data<float>();
  return SumChunks(context, a.size(), kChunk, [&](int64_t begin, int64_t end) {
    return RowProduct(x + begin, y + begin, end - begin);
  });
}

void SpectralScale(Context& context, const TensorView& raw, double sigma,
                   const TensorView& weight) {
  const auto factor = static_cast<float>(1.0 / sigma);
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
  const auto inverse = static_cast<float>(1.0 / args.sigma);
  const auto outer = static_cast<float>(args.product / (args.sigma * args.sigma));
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
