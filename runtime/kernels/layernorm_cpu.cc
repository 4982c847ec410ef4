#include <cmath>
#include <vector>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/layernorm.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

using simd::Float;

// Rows of a chunk: part of the definition of the sums over rows.
constexpr int64_t kChunkRows = 64;

float RowMean(const float* x, int64_t width) {
  Float sum = simd::Zero();
  simd::ForEachVector(width, [&](int64_t i, auto lanes) { sum += lanes.Load(x + i); });
  return simd::HorizontalSum(sum) / static_cast<float>(width);
}

float RowVariance(const float* x, int64_t width, float mean) {
  Float sum = simd::Zero();
  simd::ForEachVector(width, [&](int64_t i, auto lanes) {
    const Float centred = lanes.Load(x + i) - lanes.Only(simd::Broadcast(mean));
    sum += centred * centred;
  });
  return simd::HorizontalSum(sum) / static_cast<float>(width);
}

template <typename T>
void NormalizeRow(const LayerNormForwardArgs& args, int64_t row) {
  const int64_t width = args.x.dim(-1);
  const float* x = args.x.row<float>(row);
  const float* gain = args.gain.data<float>();
  const float* bias = args.bias.data<float>();
  T* out = args.out.row<T>(row);
  const float mean = RowMean(x, width);
  const float rstd = 1.0F / std::sqrt(RowVariance(x, width, mean) + kLayerNormEpsilon);
  simd::ForEachVector(width, [&](int64_t i, auto lanes) {
    const Float normalized = (lanes.Load(x + i) - mean) * rstd;
    lanes.Store(out + i, normalized * lanes.Load(gain + i) + lanes.Load(bias + i));
  });
  args.mean.data<float>()[row] = mean;
  args.rstd.data<float>()[row] = rstd;
}

// One row's dx and its copy, and its share of dgain and dbias, added to those. T, C: dtypes of dout and dx_copy.
template <typename T, typename C>
void BackwardRow(const LayerNormBackwardArgs& args, int64_t row, float* dgain, float* dbias) {
  const int64_t width = args.x.dim(-1);
  const T* dout = args.dout.row<T>(row);
  const float* x = args.x.row<float>(row);
  const float* gain = args.gain.data<float>();
  auto* dx = args.dx.row<float>(row);
  C* dx_copy = args.dx_copy ? args.dx_copy.row<C>(row) : nullptr;
  const float mean = args.mean.data<float>()[row];
  const float rstd = args.rstd.data<float>()[row];
  Float sum = simd::Zero();
  Float product_sum = simd::Zero();
  simd::ForEachVector(width, [&](int64_t i, auto lanes) {
    const Float gradient = lanes.Load(dout + i);
    const Float normalized = (lanes.Load(x + i) - mean) * rstd;
    const Float scaled = gradient * lanes.Load(gain + i);
    sum += scaled;
    product_sum += scaled * normalized;
    lanes.Store(dgain + i, lanes.Load(dgain + i) + gradient * normalized);
    lanes.Store(dbias + i, lanes.Load(dbias + i) + gradient);
  });
  const float mean_scaled = simd::HorizontalSum(sum) / static_cast<float>(width);
  const float mean_product = simd::HorizontalSum(product_sum) / static_cast<float>(width);
  simd::ForEachVector(width, [&](int64_t i, auto lanes) {
    // Read first: no branch within the formula, whose multiply-adds are fused.
    const Float before = args.add_to_dx ? lanes.Load(dx + i) : simd::Zero();
    const Float normalized = (lanes.Load(x + i) - mean) * rstd;
    const Float scaled = lanes.Load(dout + i) * lanes.Load(gain + i);
    const Float result = before + rstd * (scaled - mean_scaled - normalized * mean_product);
    lanes.Store(dx + i, result);
    if (dx_copy != nullptr) lanes.Store(dx_copy + i, result);
  });
}

// out[c] (+)= Σ partial[chunk, c], chunk after chunk; `stride` floats lie between chunks.
void SumPartials(const float* partial, int64_t num_chunks, int64_t stride, bool accumulate,
                 const TensorView& out) {
  auto* to = out.data<float>();
  simd::ForEachVector(out.size(), [&](int64_t i, auto lanes) {
    Float sum = simd::Zero();
    for (int64_t chunk = 0; chunk < num_chunks; ++chunk) {
      sum += lanes.Load(partial + chunk * stride + i);
    }
    lanes.Store(to + i, accumulate ? lanes.Load(to + i) + sum : sum);
  });
}

}  // namespace

void LayerNormForward(Context& context, const LayerNormForwardArgs& args) {
  DispatchFloat(args.out.dtype(), [&]<typename T>(T) {
    ParallelFor(context, args.x.rows(), [&](int64_t row) { NormalizeRow<T>(args, row); });
  });
}

void LayerNormBackward(Context& context, const LayerNormBackwardArgs& args) {
  const int64_t rows = args.x.rows();
  const int64_t width = args.x.dim(-1);
  const int64_t num_chunks = (rows + kChunkRows - 1) / kChunkRows;
  std::vector<float> partial(static_cast<size_t>(num_chunks * 2 * width));
  DispatchFloat(args.dout.dtype(), [&]<typename T>(T) {
    DispatchFloat(args.dx_copy.dtype(), [&]<typename C>(C) {
      ParallelForChunks(context, rows, kChunkRows, [&](int64_t begin, int64_t end) {
        float* dgain = partial.data() + begin / kChunkRows * 2 * width;
        for (int64_t row = begin; row < end; ++row) {
          BackwardRow<T, C>(args, row, dgain, dgain + width);
        }
      });
    });
  });
  SumPartials(partial.data(), num_chunks, 2 * width, args.accumulate, args.dgain);
  SumPartials(partial.data() + width, num_chunks, 2 * width, args.accumulate, args.dbias);
}

}  // namespace entrain::cpu
