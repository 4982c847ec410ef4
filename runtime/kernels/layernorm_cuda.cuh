// LayerNorm's forward for rows that fit a warp's registers.
#ifndef ENTRAIN_RUNTIME_KERNELS_LAYERNORM_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_LAYERNORM_CUDA_CUH_

#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elementwise.cuh"
#include "runtime/kernels/layernorm.h"

namespace entrain::cuda {

// All but the rows that are normalised.
template <typename T>
struct LayerNormOperands {
  const float* gain;
  const float* bias;
  T* out;
  float* mean;
  float* rstd;
  int64_t rows;
  int width;

  explicit LayerNormOperands(const LayerNormForwardArgs& args)
      : gain(args.gain.data<float>()),
        bias(args.bias.data<float>()),
        out(args.out.data<T>()),
        mean(args.mean.data<float>()),
        rstd(args.rstd.data<float>()),
        rows(args.x.rows()),
        width(static_cast<int>(args.x.dim(-1))) {}
};

__device__ __forceinline__ float RstdOf(float variance) {
  return 1.0F / sqrtf(variance + kLayerNormEpsilon);
}

// Of n elements from `column` on.
template <int n, typename T>
__device__ __forceinline__ void NormalizeElements(const LayerNormOperands<T>& o,
                                                  const float (&x)[n], float mean, float rstd,
                                                  int64_t row, int column) {
  float gain[n], bias[n], out[n];
  LoadVector(o.gain + column, gain);
  LoadVector(o.bias + column, bias);
#pragma unroll
  for (int j = 0; j < n; ++j) {
    out[j] = fmaf((x[j] - mean) * rstd, gain[j], bias[j]);
  }
  StoreVector(o.out + row * o.width + column, out);
}

inline constexpr int kLayerNormRows = 4;  // of a block
inline constexpr int kMaxFours = 16;      // of a lane, in registers

// Where a kernel's rows come from. Prepare: once a thread, first; Load: four elements from i on; Keep: those are to be found in memory afterwards, too.
struct RowsInMemory {
  const float* x;

  __device__ __forceinline__ void Prepare() {}
  __device__ __forceinline__ void Load(int64_t i, float (&values)[4]) const {
    Load4(x + i, values);
  }
  __device__ __forceinline__ void Keep(int64_t /*i*/, const float (&/*values*/)[4]) const {}
};

// A warp a row, which it keeps in registers: kFours fours a lane. Multiply-adds are spelt out: the bits are the same wherever the
// rows come from.
template <int kFours, typename Rows, typename T>
__global__ void __launch_bounds__(kLayerNormRows* kWarp)
    LayerNormKernel(Rows rows, LayerNormOperands<T> o) {
  const int64_t row = int64_t{blockIdx.x} * kLayerNormRows + threadIdx.x / kWarp;
  if (row >= o.rows) return;
  const int begin = 4 * static_cast<int>(threadIdx.x % kWarp);
  float x[kFours][4];
  rows.Prepare();
  // Lanes beyond the end load what they do not use: all loads are then under way at once, behind no branch.
#pragma unroll
  for (int k = 0; k < kFours; ++k) {
    const int column = begin + k * 4 * kWarp;
    rows.Load(row * o.width + (column < o.width ? column : 0), x[k]);
  }
  float sum = 0.0F;
#pragma unroll
  for (int k = 0; k < kFours; ++k) {
    const int column = begin + k * 4 * kWarp;
    if (column >= o.width) continue;
    rows.Keep(row * o.width + column, x[k]);
    sum += (x[k][0] + x[k][1]) + (x[k][2] + x[k][3]);
  }
  const float mean = WarpReduce(sum, SumOf()) / static_cast<float>(o.width);
  sum = 0.0F;
#pragma unroll
  for (int k = 0; k < kFours; ++k) {
    if (begin + k * 4 * kWarp >= o.width) continue;
#pragma unroll
    for (const float value : x[k]) sum = fmaf(value - mean, value - mean, sum);
  }
  const float rstd = RstdOf(WarpReduce(sum, SumOf()) / static_cast<float>(o.width));
#pragma unroll
  for (int k = 0; k < kFours; ++k) {
    const int column = begin + k * 4 * kWarp;
    if (column < o.width) NormalizeElements(o, x[k], mean, rstd, row, column);
  }
  if (begin == 0) {
    o.mean[row] = mean;
    o.rstd[row] = rstd;
  }
}

// With the first of these numbers of fours a lane that holds a row, GPT-2's widths among them: 768, 1024, 1280, 1600.
template <int kFours, int... kMore, typename Rows, typename T>
void LaunchLayerNormOf(Context& context, const Rows& rows, const LayerNormOperands<T>& o) {
  if constexpr (sizeof...(kMore) > 0) {
    if (o.width > kFours * 4 * kWarp) return LaunchLayerNormOf<kMore...>(context, rows, o);
  }
  Launch(LayerNormKernel<kFours, Rows, T>, BlocksFor(o.rows, kLayerNormRows),
         kLayerNormRows * kWarp, 0, context.cuda().stream, rows, o);
}
template <typename Rows, typename T>
void LaunchLayerNorm(Context& context, const Rows& rows, const LayerNormOperands<T>& o) {
  LaunchLayerNormOf<1, 2, 4, 6, 8, 10, 13, kMaxFours>(context, rows, o);
}

// Whether rows can be kept so.
inline bool FitsRegisters(const LayerNormForwardArgs& args) {
  return FoursFit(args.x) && FoursFit(args.out) && BeginAtFours(args.gain, args.bias) &&
         args.x.dim(-1) <= kMaxFours * 4 * kWarp;
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_LAYERNORM_CUDA_CUH_
