#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/row_norms.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

using simd::Float;

// A task: units that lie beside each other (columns), or one row.
constexpr int64_t kBlockColumns = 64;
// Rows of a chunk of a column's sum: part of its definition.
constexpr int64_t kChunkRows = 64;

// Σ a∘b over each of the columns [begin, end), rows in chunks, in fp64.
using BlockSums = std::array<double, kBlockColumns>;
BlockSums ColumnProducts(const TensorView& a, const TensorView& b, int64_t begin, int64_t end) {
  BlockSums sums = {};
  for (int64_t first = 0; first < a.dim(0); first += kChunkRows) {
    BlockSums chunk = {};
    for (int64_t row = first; row < std::min(a.dim(0), first + kChunkRows); ++row) {
      const float* x = a.row<float>(row) + begin;
      const float* y = b.row<float>(row) + begin;
      for (int64_t i = 0; i < end - begin; ++i) chunk[i] += double{x[i]} * y[i];
    }
    for (int64_t i = 0; i < end - begin; ++i) sums[i] += chunk[i];
  }
  return sums;
}

double RowProduct(const float* x, const float* y, int64_t size) {
  simd::Double sum;
  simd::ForEachVector(size, [&](int64_t i, auto lanes) {
    sum += simd::ToDouble(lanes.Load(x + i)) * simd::ToDouble(lanes.Load(y + i));
  });
  return simd::HorizontalSum(sum);
}

float RatioOrZero(double numerator, double norm) {
  return norm == 0.0 ? 0.0F : static_cast<float>(numerator / norm);
}

// A unit's numbers for one row: the same for the whole row (kInput) or one for each column (kOutput).
struct UnitValues {
  const float* data;
  NormAxis axis;
  int64_t row;

  template <typename Lanes>
  Float Load(int64_t column, Lanes lanes) const {
    return axis == NormAxis::kInput ? simd::Broadcast(data[row]) : lanes.Load(data + column);
  }
};

Float Quotient(Float numerator, Float norm) {
  return norm == 0.0F ? simd::Zero() : numerator / norm;
}

}  // namespace

void UnitProducts(Context& context, const TensorView& a, const TensorView& b, NormAxis axis,
                  const TensorView& products) {
  auto* out = products.data<double>();
  if (axis == NormAxis::kInput) {
    ParallelFor(context, a.dim(0), [&](int64_t row) {
      out[row] = RowProduct(a.row<float>(row), b.row<float>(row), a.dim(1));
    });
    return;
  }
  ParallelForChunks(context, a.dim(1), kBlockColumns, [&](int64_t begin, int64_t end) {
    const BlockSums sums = ColumnProducts(a, b, begin, end);
    std::copy_n(sums.begin(), end - begin, out + begin);
  });
}

void NormsFromSquares(Context& /*context*/, const TensorView& squares, const TensorView& norms) {
  const auto* from = squares.data<double>();
  std::transform(from, from + squares.size(), norms.data<float>(),
                 [](double square) { return static_cast<float>(std::sqrt(square)); });
}

void WeightNormForward(Context& context, const WeightNormForwardArgs& args) {
  DispatchFloat(args.weight.dtype(), [&]<typename T>(T) {
    ParallelFor(context, args.v.dim(0), [&](int64_t row) {
      const float* v = args.v.row<float>(row);
      T* weight = args.weight.row<T>(row);
      const UnitValues gains{args.g.data<float>(), args.axis, row};
      const UnitValues norms{args.norms.data<float>(), args.axis, row};
      simd::ForEachVector(args.v.dim(1), [&](int64_t i, auto lanes) {
        const Float factor = Quotient(gains.Load(i, lanes), norms.Load(i, lanes));
        lanes.Store(weight + i, factor * lanes.Load(v + i));
      });
    });
  });
}

void WeightNormBackward(Context& context, const WeightNormBackwardArgs& args) {
  const auto* all_norms = args.norms.data<float>();
  auto* dg = args.dg.data<float>();
  const auto* products = args.products.data<double>();
  std::transform(products, products + args.products.size(), all_norms, dg, RatioOrZero);
  ParallelFor(context, args.v.dim(0), [&](int64_t row) {
    const float* dweight = args.dweight.row<float>(row);
    const float* v = args.v.row<float>(row);
    auto* dv = args.dv.row<float>(row);
    const UnitValues gains{args.g.data<float>(), args.axis, row};
    const UnitValues norms{all_norms, args.axis, row};
    const UnitValues gain_gradients{dg, args.axis, row};
    simd::ForEachVector(args.v.dim(1), [&](int64_t i, auto lanes) {
      const Float norm = norms.Load(i, lanes);
      const Float direction = Quotient(lanes.Load(v + i), norm);
      const Float rest = lanes.Load(dweight + i) - direction * gain_gradients.Load(i, lanes);
      lanes.Store(dv + i, Quotient(gains.Load(i, lanes), norm) * rest);
    });
  });
}

}  // namespace entrain::cpu
