// Attention of one new position against a cache: a block a head. Its warps take keys in turn, each with running values of
// its own (see OnlineRow), which are merged in the order of warps.
#include "runtime/kernels/attention_cuda.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"

namespace entrain::cuda::attention {
namespace {

constexpr int kWarps = 16;
constexpr int kThreads = kWarps * kWarp;
constexpr int kKeys = 4;  // of a warp at a time, so that their loads and sums overlap

template <typename T>
struct DecodeOperands {
  Temperature temperature;
  int length;
  int width;
  int64_t stride;  // elements between positions of the cache
  const T* q;
  const T* keys;
  const T* values;
  T* out;
  float* entropy;
};

// Running values of a warp over the keys it has seen: all lanes hold the same sums, lane l columns l + 32·c of out.
template <int kColumns>
struct WarpSums {
  float maximum = kMasked;
  float sum = 0.0F;
  float weighted = 0.0F;
  float out[kColumns] = {};
};

// What the block's warps hand to the merge.
struct SharedSums {
  float maximum[kWarps];
  float sum[kWarps];
  float weighted[kWarps];
  float out[kWarps][kMaxWidth];
};

template <typename T, int kColumns>
__device__ __forceinline__ void LoadColumns(float (&columns)[kColumns], const T* from, int width) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const int d = lane + c * kWarp;
    columns[c] = d < width ? ToFloat(from[d]) : 0.0F;
  }
}

template <int kColumns>
__device__ __forceinline__ void AddKeys(WarpSums<kColumns>& sums, const float (&scores)[kKeys],
                                        const float (&values)[kKeys][kColumns], float scale) {
  float top = sums.maximum;
#pragma unroll
  for (const float score : scores) top = fmaxf(top, score);
  const float rise = (top - sums.maximum) * scale;
  const float rescale = Exp2(-rise);
  sums.weighted = rescale * fmaf(rise, sums.sum, sums.weighted);
  sums.sum *= rescale;
  sums.maximum = top;
#pragma unroll
  for (float& value : sums.out) value *= rescale;
#pragma unroll
  for (int r = 0; r < kKeys; ++r) {
    const float x = (scores[r] - top) * scale;
    const float power = Exp2(x);
    sums.sum += power;
    sums.weighted = fmaf(-power, x, sums.weighted);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sums.out[c] = fmaf(power, values[r][c], sums.out[c]);
  }
}

// The keys of one warp.
template <typename T, int kColumns>
__device__ __forceinline__ void SumWarp(const DecodeOperands<T>& operands, int head, float scale,
                                        WarpSums<kColumns>& sums) {
  const int width = operands.width;
  const T* keys = operands.keys + head * width;
  const T* values = operands.values + head * width;
  float query[kColumns];
  LoadColumns(query, operands.q + head * width, width);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  for (int first = warp * kKeys; first < operands.length; first += kWarps * kKeys) {
    float scores[kKeys];
    float value[kKeys][kColumns];
#pragma unroll
    for (int r = 0; r < kKeys; ++r) {
      // Instead of a key that is not there, the last one again, then masked.
      const int64_t at = min(first + r, operands.length - 1) * operands.stride;
      float key[kColumns];
      LoadColumns(key, keys + at, width);
      LoadColumns(value[r], values + at, width);
      float dot = 0.0F;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) dot = fmaf(query[c], key[c], dot);
      scores[r] = WarpReduce(dot, SumOf());
    }
#pragma unroll
    for (int r = 0; r < kKeys; ++r) {
      if (first + r >= operands.length) scores[r] = kMasked;
    }
    AddKeys(sums, scores, value, scale);
  }
}

template <typename T>
__device__ __forceinline__ void MergeWarps(const DecodeOperands<T>& operands, int head, float scale,
                                           const SharedSums& shared) {
  float maximum = kMasked;
  for (int w = 0; w < kWarps; ++w) maximum = fmaxf(maximum, shared.maximum[w]);
  float rescale[kWarps];
  float sum = 0.0F;
  float weighted = 0.0F;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const float rise = (maximum - shared.maximum[w]) * scale;
    rescale[w] = Exp2(-rise);
    weighted = fmaf(rescale[w], fmaf(rise, shared.sum[w], shared.weighted[w]), weighted);
    sum = fmaf(rescale[w], shared.sum[w], sum);
  }
  for (int d = static_cast<int>(threadIdx.x); d < operands.width; d += kThreads) {
    float out = 0.0F;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) out = fmaf(rescale[w], shared.out[w][d], out);
    operands.out[head * operands.width + d] = FromFloat<T>(out / sum);
  }
  if (threadIdx.x == 0) {
    const double log2_sum = log2(static_cast<double>(sum));
    operands.entropy[head] =
        static_cast<float>(kLn2 * (log2_sum + static_cast<double>(weighted) / sum));
  }
}

template <typename T, int kColumns>
__global__ void __launch_bounds__(kThreads) DecodeKernel(DecodeOperands<T> operands) {
  __shared__ SharedSums shared;
  const int head = static_cast<int>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const float scale = operands.temperature.Scale(head, operands.length - 1);
  WarpSums<kColumns> sums;
  SumWarp(operands, head, scale, sums);
  if (lane == 0) {
    shared.maximum[warp] = sums.maximum;
    shared.sum[warp] = sums.sum;
    shared.weighted[warp] = sums.weighted;
  }
#pragma unroll
  for (int c = 0; c < kColumns; ++c) shared.out[warp][lane + c * kWarp] = sums.out[c];
  __syncthreads();
  MergeWarps(operands, head, scale, shared);
}

template <typename T, int kColumns>
void LaunchDecode(Context& context, const AttentionDecodeArgs& args) {
  const auto width = static_cast<int>(args.q.dim(1));
  const DecodeOperands<T> operands = {.temperature = Temperature(args.temperature, width),
                                      .length = static_cast<int>(args.length),
                                      .width = width,
                                      .stride = args.q.size(),
                                      .q = args.q.data<T>(),
                                      .keys = args.keys.data<T>(),
                                      .values = args.values.data<T>(),
                                      .out = args.out.data<T>(),
                                      .entropy = args.entropy.data<float>()};
  Launch(DecodeKernel<T, kColumns>, static_cast<unsigned>(args.q.dim(0)), kThreads, 0,
         context.cuda().stream, operands);
}

}  // namespace
}  // namespace entrain::cuda::attention

namespace entrain::cuda {

void AttentionDecode(Context& context, const AttentionDecodeArgs& args) {
  CHECK_LE(args.q.dim(1), attention::kMaxWidth) << "width of attention's heads, on CUDA";
  DispatchFloat(args.q.dtype(), [&](auto element) {
    using T = decltype(element);
    if (args.q.dim(1) <= 64) {
      attention::LaunchDecode<T, 2>(context, args);
    } else {
      attention::LaunchDecode<T, attention::kMaxWidth / kWarp>(context, args);
    }
  });
}

}  // namespace entrain::cuda
