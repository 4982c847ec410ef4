#include <algorithm>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/reduce.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

using simd::Float;

// Rows of a chunk: part of the definition of a column's sum.
constexpr int64_t kChunkRows = 64;
// Columns of a task.
constexpr int64_t kBlockColumns = 64;
// Elements of a chunk of a sum of squares.
constexpr int64_t kChunk = 16384;

// Sum of the vector at `column` over all rows, chunk after chunk.
template <typename T, typename Lanes>
Float SumRows(const TensorView& x, int64_t column, Lanes lanes) {
  const int64_t rows = x.rows();
  const int64_t stride = x.row_stride();
  const T* from = x.data<T>() + column;
  Float sum = simd::Zero();
  for (int64_t begin = 0; begin < rows; begin += kChunkRows) {
    const int64_t end = std::min(rows, begin + kChunkRows);
    Float chunk = simd::Zero();
    for (int64_t row = begin; row < end; ++row) chunk += lanes.Load(from + row * stride);
    sum += chunk;
  }
  return sum;
}

double ChunkSumOfSquares(const float* x, int64_t size) {
  simd::Double sum;
  simd::ForEachVector(size, [&](int64_t i, auto lanes) {
    const simd::Double value = simd::ToDouble(lanes.Load(x + i));
    sum += value * value;
  });
  return simd::HorizontalSum(sum);
}

}  // namespace

void ColumnSum(Context& context, const ColumnSumArgs& args) {
  auto* out = args.out.data<float>();
  DispatchFloat(args.x.dtype(), [&]<typename T>(T) {
    ParallelForChunks(
        context, args.end - args.begin, kBlockColumns, [&](int64_t begin, int64_t end) {
          simd::ForEachVector(end - begin, [&](int64_t offset, auto lanes) {
            const int64_t column = args.begin + begin + offset;
            const Float sum = SumRows<T>(args.x, column, lanes);
            lanes.Store(out + column, args.accumulate ? lanes.Load(out + column) + sum : sum);
          });
        });
  });
}

double SumOfSquares(Context& context, const TensorView& x) {
  const auto* from = x.data<float>();
  return SumChunks(context, x.size(), kChunk, [&](int64_t begin, int64_t end) {
    return ChunkSumOfSquares(from + begin, end - begin);
  });
}

void AddMean(Context& /*context*/, const AddMeanArgs& args) {
  const auto* x = args.x.data<float>();
  double sum = 0.0;
  for (int64_t i = 0; i < args.x.size(); ++i) sum += x[i];
  double& out = *args.out.data<double>();
  out = (args.accumulate ? out : 0.0) + args.scale * (sum / static_cast<double>(args.x.size()));
}

}  // namespace entrain::cpu
