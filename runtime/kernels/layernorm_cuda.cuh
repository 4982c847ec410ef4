// LayerNorm's forward for rows that fit a warp's registers.
#ifndef ENTRAIN_RUNTIME_KERNELS_LAYERNORM_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_LAYERNORM_CUDA_CUH_

#include <algorithm>

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

// Of n elements, where gain, bias and out point.
template <int n, typename T>
__device__ __forceinline__ void NormalizeElements(const float* gain, const float* bias,
                                                  const float (&x)[n], float mean, float rstd,
                                                  T* out) {
  float gains[n], biases[n], normed[n];
  LoadVector(gain, gains);
  LoadVector(bias, biases);
#pragma unroll
  for (int j = 0; j < n; ++j) {
    normed[j] = fmaf((x[j] - mean) * rstd, gains[j], biases[j]);
  }
  StoreVector(out, normed);
}

inline constexpr int kLayerNormRows = 4;  // of a block at a time
inline constexpr int kMaxFours = 16;      // of a lane, in registers

// Where a kernel's rows come from. Prepare: once a thread, first; Load: what four elements from i on are made of; Make: the four; Keep:
// those are to be found in memory afterwards, too.
struct RowsInMemory {
  static constexpr int kInputs = 1;
  const float* x;

  __device__ __forceinline__ void Prepare() {}
  __device__ __forceinline__ void Load(int64_t i, float (&in)[1][4]) const { Load4(x + i, in[0]); }
  __device__ __forceinline__ void Make(const float (&in)[1][4], float (&values)[4]) const {
#pragma unroll
    for (int j = 0; j < 4; ++j) values[j] = in[0][j];
  }
  __device__ __forceinline__ void Keep(int64_t /*i*/, const float (&/*values*/)[4]) const {}
};

// A lane's share of a row: kFours fours, 4 · kWarp apart. Lanes beyond the end load what they do not use: all loads are then under way
// at once, behind no branch.
template <int kFours, typename Rows>
__device__ __forceinline__ void LoadRow(const Rows& rows, int64_t row, int width,
                                        float (&in)[kFours][Rows::kInputs][4]) {
  const int begin = 4 * static_cast<int>(threadIdx.x % kWarp);
#pragma unroll
  for (int k = 0; k < kFours; ++k) {
    const int column = begin + k * 4 * kWarp;
    rows.Load(row * width + (column < width ? column : 0), in[k]);
  }
}

// Normalises a row that a warp has in registers. Multiply-adds are spelt out: the bits are the same wherever rows come from.
template <int kFours, typename Rows, typename T>
__device__ __forceinline__ void NormalizeRow(const Rows& rows, const LayerNormOperands<T>& o,
                                             const float* gain, const float* bias, int64_t row,
                                             const float (&x)[kFours][4]) {
  const int begin = 4 * static_cast<int>(threadIdx.x % kWarp);
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
    if (column >= o.width) continue;
    NormalizeElements(gain + column, bias + column, x[k], mean, rstd,
                      o.out + row * o.width + column);
  }
  if (begin == 0) {
    o.mean[row] = mean;
    o.rstd[row] = rstd;
  }
}

// Blocks on a multiprocessor, whose registers they fill: a thread has a row, what the next one is made of, and all else.
template <int kFours, typename Rows>
constexpr int LayerNormBlocks() {
  constexpr int kRegisters = 65536 / (kLayerNormRows * kWarp);
  return kRegisters / (kFours * 4 * (Rows::kInputs + 1) + 28);
}

// A warp a row at a time, and the next row is read while one is normalised. gain and bias are in shared memory, where no row displaces
// them. All lanes meet between a row's reading and its keeping, those beyond the end, too, which read what others keep: it may be kept
// where it was read. (Reductions do not order memory.)
template <int kFours, typename Rows, typename T>
__global__ void __launch_bounds__(kLayerNormRows* kWarp, LayerNormBlocks<kFours, Rows>())
    LayerNormKernel(Rows rows, LayerNormOperands<T> o) {
  auto* gain = reinterpret_cast<float*>(DynamicShared());
  float* bias = gain + o.width;
  for (int i = 4 * static_cast<int>(threadIdx.x); i < o.width; i += 4 * kLayerNormRows * kWarp) {
    CopyAsync16(gain + i, o.gain + i);
    CopyAsync16(bias + i, o.bias + i);
  }
  CommitCopies();
  const int64_t step = int64_t{gridDim.x} * kLayerNormRows;
  int64_t row = int64_t{blockIdx.x} * kLayerNormRows + threadIdx.x / kWarp;
  float next[kFours][Rows::kInputs][4];
  if (row < o.rows) LoadRow(rows, row, o.width, next);
  rows.Prepare();
  WaitForCopies<0>();
  __syncthreads();
  for (; row < o.rows; row += step) {
    __syncwarp();
    float x[kFours][4];
#pragma unroll
    for (int k = 0; k < kFours; ++k) rows.Make(next[k], x[k]);
    if (row + step < o.rows) LoadRow(rows, row + step, o.width, next);
    NormalizeRow(rows, o, gain, bias, row, x);
  }
}

// With the first of these numbers of fours a lane that holds a row, GPT-2's widths among them: 768, 1024, 1280, 1600.
template <int kFours, int... kMore, typename Rows, typename T>
void LaunchLayerNormOf(Context& context, const Rows& rows, const LayerNormOperands<T>& o) {
  if constexpr (sizeof...(kMore) > 0) {
    if (o.width > kFours * 4 * kWarp) return LaunchLayerNormOf<kMore...>(context, rows, o);
  }
  // Twice as many blocks as there is room for: the second half is for who is done first.
  const auto room =
      static_cast<unsigned>(2 * context.cuda().multiprocessors * LayerNormBlocks<kFours, Rows>());
  Launch(LayerNormKernel<kFours, Rows, T>, std::min(room, BlocksFor(o.rows, kLayerNormRows)),
         kLayerNormRows * kWarp, static_cast<size_t>(2 * o.width) * sizeof(float),
         context.cuda().stream, rows, o);
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
