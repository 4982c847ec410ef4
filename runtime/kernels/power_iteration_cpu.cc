#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

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

// W̄u: one task a row.
std::vector<double> TimesVector(Context& context, const TensorView& raw, const float* u) {
  std::vector<double> product(static_cast<size_t>(raw.dim(0)));
  ParallelFor(context, raw.dim(0), [&](int64_t row) {
    product[static_cast<size_t>(row)] = RowProduct(raw.row<float>(row), u, raw.dim(1));
  });
  return product;
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

std::vector<double> TransposeTimesVector(Context& context, const TensorView& raw, const float* v) {
  std::vector<double> product(static_cast<size_t>(raw.dim(1)));
  ParallelForChunks(context, raw.dim(1), kBlockColumns, [&](int64_t begin, int64_t end) {
    ColumnBlockProduct(raw, v, begin, end, product.data() + begin);
  });
  return product;
}

double Norm(const std::vector<double>& vector) {
  double sum = 0.0;
  for (const double value : vector) sum += value * value;
  return std::sqrt(sum);
}

// out = vector/norm, or zero with it.
void Normalize(const std::vector<double>& vector, double norm, float* out) {
  std::transform(vector.begin(), vector.end(), out, [norm](double value) {
    return norm == 0.0 ? 0.0F : static_cast<float>(value / norm);
  });
}

double ProductSum(Context& context, const TensorView& a, const TensorView& b) {
  constexpr int64_t kChunk = 16384;
  const auto* x = a.data<float>();
  const auto* y = b.data<float>();
  return SumChunks(context, a.size(), kChunk, [&](int64_t begin, int64_t end) {
    return RowProduct(x + begin, y + begin, end - begin);
  });
}

}  // namespace

double PowerIteration(Context& context, const PowerIterationArgs& args) {
  const auto* u = args.u.data<float>();
  auto* v = args.v.data<float>();
  auto* next_u = args.next_u.data<float>();
  const std::vector<double> forward = TimesVector(context, args.raw, u);
  Normalize(forward, Norm(forward), v);
  const std::vector<double> back = TransposeTimesVector(context, args.raw, v);
  const double sigma = Norm(back);
  if (sigma == 0.0) {
    std::copy_n(u, args.u.size(), next_u);
  } else {
    Normalize(back, sigma, next_u);
  }
  return sigma;
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
  const double product = ProductSum(context, args.dweight, args.raw);
  const auto outer = static_cast<float>(product / (args.sigma * args.sigma));
  const auto* u = args.u.data<float>();
  const auto* v = args.v.data<float>();
  ParallelFor(context, args.raw.dim(0), [&](int64_t row) {
    const float* dweight = args.dweight.row<float>(row);
    auto* draw = args.draw.row<float>(row);
    const float row_factor = outer * v[row];
    simd::ForEachVector(args.raw.dim(1), [&](int64_t i, auto lanes) {
      lanes.Store(draw + i, inverse * lanes.Load(dweight + i) - row_factor * lanes.Load(u + i));
    });
  });
}

}  // namespace entrain::cpu
