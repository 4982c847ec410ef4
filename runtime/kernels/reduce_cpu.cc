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

void AddRow(const float* entropy, int64_t size, HeadMoments& moments) {
  for (int64_t i = 0; i < size; ++i) {
    const double value = entropy[i];
    moments.sum += value;
    moments.sum_of_squares += value * value;
    moments.min = std::min(moments.min, entropy[i]);
    moments.max = std::max(moments.max, entropy[i]);
  }
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

std::vector<double> SumsOfSquares(Context& context, const std::vector<TensorView>& vectors) {
  std::vector<double> sums;
  for (const TensorView& x : vectors) {
    const auto* from = x.data<float>();
    sums.push_back(SumChunks(context, x.size(), kChunk, [&](int64_t begin, int64_t end) {
      return ChunkSumOfSquares(from + begin, end - begin);
    }));
  }
  return sums;
}

void EntropyMoments(Context& context, const TensorView& entropy, HeadMoments* moments) {
  const int64_t batch = entropy.dim(1);
  const int64_t heads = entropy.dim(2);
  const int64_t positions = entropy.dim(3);
  ParallelFor(context, entropy.dim(0) * heads, [&](int64_t i) {
    const int64_t first_row = i / heads * batch * heads + i % heads;
    const float first = *entropy.row<float>(first_row);
    HeadMoments result = {.sum = 0.0, .sum_of_squares = 0.0, .min = first, .max = first};
    for (int64_t b = 0; b < batch; ++b) {
      AddRow(entropy.row<float>(first_row + b * heads), positions, result);
    }
    moments[i] = result;
  });
}

}  // namespace entrain::cpu
