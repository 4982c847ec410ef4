#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elementwise.cuh"
#include "runtime/kernels/layernorm.h"

namespace entrain::cuda {
namespace {

template <typename T>
struct ForwardOperands {
  const float* x;
  const float* gain;
  const float* bias;
  T* out;
  float* mean;
  float* rstd;
  int64_t rows;
  int width;

  explicit ForwardOperands(const LayerNormForwardArgs& args)
      : x(args.x.data<float>()),
        gain(args.gain.data<float>()),
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
__device__ __forceinline__ void NormalizeElements(const ForwardOperands<T>& o, const float (&x)[n],
                                                  float mean, float rstd, int64_t row, int column) {
  float gain[n], bias[n], out[n];
  LoadVector(o.gain + column, gain);
  LoadVector(o.bias + column, bias);
#pragma unroll
  for (int j = 0; j < n; ++j) out[j] = (x[j] - mean) * rstd * gain[j] + bias[j];
  StoreVector(o.out + row * o.width + column, out);
}

constexpr int kBlockRows = 4;
constexpr int kMaxFours = 16;  // of a lane, in registers

// A warp a row, which it keeps in registers: kFours fours a lane.
template <int kFours, typename T>
__global__ void __launch_bounds__(kBlockRows* kWarp) ForwardKernel(ForwardOperands<T> o) {
  const int64_t row = int64_t{blockIdx.x} * kBlockRows + threadIdx.x / kWarp;
  if (row >= o.rows) return;
  const int begin = 4 * static_cast<int>(threadIdx.x % kWarp);
  float x[kFours][4];
  // Lanes beyond the end load what they do not use: all loads are then under way at once, behind no branch.
#pragma unroll
  for (int k = 0; k < kFours; ++k) {
    const int column = begin + k * 4 * kWarp;
    Load4(o.x + row * o.width + (column < o.width ? column : 0), x[k]);
  }
  float sum = 0.0F;
#pragma unroll
  for (int k = 0; k < kFours; ++k) {
    if (begin + k * 4 * kWarp < o.width) sum += (x[k][0] + x[k][1]) + (x[k][2] + x[k][3]);
  }
  const float mean = WarpReduce(sum, SumOf()) / static_cast<float>(o.width);
  sum = 0.0F;
#pragma unroll
  for (int k = 0; k < kFours; ++k) {
    if (begin + k * 4 * kWarp >= o.width) continue;
#pragma unroll
    for (const float value : x[k]) sum += (value - mean) * (value - mean);
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

constexpr int kAnyWidthThreads = 256;

// A block a row of any width, read three times.
template <typename T>
__global__ void __launch_bounds__(kAnyWidthThreads) ForwardAnyWidthKernel(ForwardOperands<T> o) {
  __shared__ float scratch[kMaxWarps];
  const int64_t row = blockIdx.x;
  const float* x = o.x + row * o.width;
  const auto thread = static_cast<int>(threadIdx.x);
  float sum = 0.0F;
  for (int i = thread; i < o.width; i += kAnyWidthThreads) sum += x[i];
  const float mean = BlockReduce(sum, scratch, SumOf()) / static_cast<float>(o.width);
  sum = 0.0F;
  for (int i = thread; i < o.width; i += kAnyWidthThreads) sum += (x[i] - mean) * (x[i] - mean);
  const float rstd = RstdOf(BlockReduce(sum, scratch, SumOf()) / static_cast<float>(o.width));
  for (int i = thread; i < o.width; i += kAnyWidthThreads) {
    const float value[1] = {x[i]};
    NormalizeElements(o, value, mean, rstd, row, i);
  }
  if (thread == 0) {
    o.mean[row] = mean;
    o.rstd[row] = rstd;
  }
}

// With the first of these numbers of fours a lane that holds a row, GPT-2's widths among them: 768, 1024, 1280, 1600.
template <int kFours, int... kMore, typename T>
void LaunchForward(Context& context, const ForwardOperands<T>& o) {
  if constexpr (sizeof...(kMore) > 0) {
    if (o.width > kFours * 4 * kWarp) return LaunchForward<kMore...>(context, o);
  }
  Launch(ForwardKernel<kFours, T>, static_cast<unsigned>((o.rows + kBlockRows - 1) / kBlockRows),
         kBlockRows * kWarp, 0, context.cuda().stream, o);
}

}  // namespace

void LayerNormForward(Context& context, const LayerNormForwardArgs& args) {
  if (args.x.rows() == 0) return;
  const bool fours = FoursFit(args.x) && FoursFit(args.out) && BeginAtFours(args.gain, args.bias);
  DispatchFloat(args.out.dtype(), [&]<typename T>(T) {
    const ForwardOperands<T> operands(args);
    if (fours && operands.width <= kMaxFours * 4 * kWarp) {
      LaunchForward<1, 2, 4, 6, 8, 10, 13, kMaxFours>(context, operands);
    } else {
      Launch(ForwardAnyWidthKernel<T>, static_cast<unsigned>(operands.rows), kAnyWidthThreads, 0,
             context.cuda().stream, operands);
    }
  });
}

}  // namespace entrain::cuda
