// Row terms of attention's backward (RowTerms) in the making.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_ROWS_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_ROWS_CUDA_CUH_

#include "runtime/kernels/attention_cuda.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"

namespace entrain::cuda::attention {

inline constexpr int kRowLanes = 8;  // that share a row of out

template <typename T>
struct RowOperands {
  Shape shape;
  Temperature temperature;
  RowTerms rows;
  const T* out;
  const T* dout;
  const float* lse;
  const float* lse_low;
  const float* entropy;
  const float* gradient;  // of the entropies, or null
  bool gradient_per_head;
  bool centred_offsets;
  bool vectors;  // of kWideVector: out and dout may be taken so

  RowOperands(const AttentionBackwardArgs& args, const RowTerms& row_terms, bool centred)
      : shape(args.qkv),
        temperature(args.temperature, shape.width),
        rows(row_terms),
        out(args.out.data<T>()),
        dout(args.dout.data<T>()),
        lse(args.lse.data<float>()),
        lse_low(args.lse_low ? args.lse_low.data<float>() : nullptr),
        entropy(args.entropy.data<float>()),
        gradient(args.entropy_gradient ? args.entropy_gradient.data<float>() : nullptr),
        gradient_per_head(args.entropy_gradient.num_dims() == 1),
        centred_offsets(centred),
        vectors(VectorsFit(args.out, kWideVector<T>) && VectorsFit(args.dout, kWideVector<T>)) {}
};

// The lane's part of Σ_d a·b: kRowLanes lanes share a row.
template <typename T>
__device__ __forceinline__ float PartialDot(const T* a, const T* b, int width, bool vectors) {
  constexpr int n = kWideVector<T>;
  const int lane = static_cast<int>(threadIdx.x) % kRowLanes;
  float sum = 0.0F;
  if (!vectors) {
    for (int d = lane; d < width; d += kRowLanes) sum = fmaf(ToFloat(a[d]), ToFloat(b[d]), sum);
    return sum;
  }
#pragma unroll
  for (int begin = 0; begin < width; begin += kRowLanes * n) {
    const int d = begin + lane * n;
    if (d >= width) break;
    float x[n];
    float y[n];
    LoadVector(a + d, x);
    LoadVector(b + d, y);
    float part = x[0] * y[0];
#pragma unroll
    for (int i = 1; i < n; ++i) part = fmaf(x[i], y[i], part);
    sum += part;
  }
  return sum;
}

// The lane's part of Σ_d dO·O of a row: of the last one, for rows beyond T. width and vectors: the operands' own, for a caller that
// knows them as constants.
template <typename T>
__device__ __forceinline__ float PartialRowDot(const RowOperands<T>& operands, int pair,
                                               int position, int width, bool vectors) {
  const Shape& shape = operands.shape;
  const int row = min(position, shape.length - 1);
  const int64_t at = shape.OutOffset(pair) + row * shape.out_stride();
  return PartialDot(operands.dout + at, operands.out + at, width, vectors);
}

// What a row's terms are made of beside Σ_d dO·O.
struct RowInputs {
  float lse = 0.0F;
  float lse_low = 0.0F;
  float entropy = 0.0F;
  float temperature = 1.0F;
  float gradient = 0.0F;

  template <typename T>
  __device__ __forceinline__ RowInputs(const RowOperands<T>& operands, int pair, int position) {
    if (position >= operands.shape.length) return;
    const int head = pair % operands.shape.heads;
    const int64_t at = static_cast<int64_t>(pair) * operands.shape.length + position;
    lse = operands.lse[at];
    if (operands.lse_low != nullptr) lse_low = operands.lse_low[at];
    entropy = operands.entropy[at];
    temperature = operands.temperature.At(head, position);
    if (operands.gradient != nullptr) {
      gradient = operands.gradient[operands.gradient_per_head ? head : at];
    }
  }
};

// All terms of one row but the moment, to `terms`, at distances of RowTerms::kBlock; `dot` = Σ_d dO·O.
template <typename T>
__device__ void WriteTerms(const RowOperands<T>& operands, const RowInputs& row, int position,
                           float dot, float* terms) {
  auto put = [&](int term, float value) { terms[term * RowTerms::kBlock] = value; };
  if (position >= operands.shape.length) {
    for (int term = 0; term < kRowTerms; ++term) put(term, 0.0F);
    put(kLogSum, -kMasked);  // a = 2^(−kLogSum) = 0
    return;
  }
  const double log_sum = (row.lse + static_cast<double>(row.lse_low)) * kLog2E;
  put(kScale, operands.temperature.ScaleOf(row.temperature));
  put(kLogSum, static_cast<float>(log_sum));
  put(kLogSumLow, static_cast<float>(log_sum - static_cast<float>(log_sum)));
  const float entropy = row.entropy * static_cast<float>(kLog2E);
  put(kEntropy, entropy);
  // A softmax over one score is constant; rounding must not say otherwise.
  const float factor = position == 0 ? 0.0F : operands.temperature.FactorOf(row.temperature);
  const float gradient = position == 0 ? 0.0F : row.gradient;
  const float slope = factor * gradient * static_cast<float>(kLn2);
  const float offset = position == 0 ? 0.0F : factor * dot;
  put(kFactor, factor);
  put(kSlope, slope);
  put(kOffset, operands.centred_offsets ? fmaf(slope, entropy, offset) : offset);
}

}  // namespace entrain::cuda::attention

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_ROWS_CUDA_CUH_
