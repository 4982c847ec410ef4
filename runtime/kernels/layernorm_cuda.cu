#include <algorithm>

#include "runtime/device/device_memory.h"
#include "runtime/kernels/cuda_partials.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/layernorm.h"

namespace entrain::cuda {
namespace {

// ---- forward ----

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

// ---- backward ----

template <typename T>
struct BackwardOperands {
  const T* dout;
  const float* x;
  const float* gain;
  const float* mean;
  const float* rstd;
  float* dx;
  float* partial;  // [chunks, 2, width]: of dgain, then of dbias
  int64_t rows;
  int width;
  int chunk_rows;

  BackwardOperands(const LayerNormBackwardArgs& args, float* partial_sums, int64_t rows_of_chunk)
      : dout(args.dout.data<T>()),
        x(args.x.data<float>()),
        gain(args.gain.data<float>()),
        mean(args.mean.data<float>()),
        rstd(args.rstd.data<float>()),
        dx(args.dx.data<float>()),
        partial(partial_sums),
        rows(args.x.rows()),
        width(static_cast<int>(args.x.dim(-1))),
        chunk_rows(static_cast<int>(rows_of_chunk)) {}
};

// Of a row: Σ dout·gain and Σ dout·gain·normalized.
struct RowSums {
  float scaled = 0.0F;
  float product = 0.0F;
};

// The sums over the block. `scratch`: kMaxWarps elements, which may be written again once all threads have called with another.
__device__ __forceinline__ RowSums BlockSums(RowSums sums, RowSums* scratch) {
  sums.scaled = WarpReduce(sums.scaled, SumOf());
  sums.product = WarpReduce(sums.product, SumOf());
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = sums;
  __syncthreads();
  sums = scratch[0];
  for (int warp = 1; warp < static_cast<int>(blockDim.x) / kWarp; ++warp) {
    sums.scaled += scratch[warp].scaled;
    sums.product += scratch[warp].product;
  }
  return sums;
}

constexpr int kMaxBackwardThreads = 1024;
constexpr int kColumns = 4;

// A block a chunk of rows, kColumns neighbouring columns a thread: their dgain and dbias stay in its registers.
template <typename T>
__global__ void __launch_bounds__(kMaxBackwardThreads) BackwardKernel(BackwardOperands<T> o) {
  __shared__ RowSums scratch[2][kMaxWarps];  // by turns, so that one barrier a row is enough
  const int column = kColumns * static_cast<int>(threadIdx.x);
  const bool inside = column < o.width;
  const int64_t begin = int64_t{blockIdx.x} * o.chunk_rows;
  const int64_t end = begin + o.chunk_rows < o.rows ? begin + o.chunk_rows : o.rows;
  const float inverse_width = 1.0F / static_cast<float>(o.width);
  float gain[kColumns] = {}, dgain[kColumns] = {}, dbias[kColumns] = {};
  if (inside) LoadVector(o.gain + column, gain);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = row * o.width + column;
    const float rstd = o.rstd[row];
    float x[kColumns] = {}, dout[kColumns] = {}, dx[kColumns] = {};
    RowSums sums;
    if (inside) {
      const float mean = o.mean[row];
      LoadVector(o.x + at, x);
      LoadVector(o.dout + at, dout);
      LoadVector(o.dx + at, dx);
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        x[j] = (x[j] - mean) * rstd;  // normalized, from here on
        dgain[j] += dout[j] * x[j];
        dbias[j] += dout[j];
        sums.scaled += dout[j] * gain[j];
        sums.product += dout[j] * gain[j] * x[j];
      }
    }
    sums = BlockSums(sums, scratch[row % 2]);
    if (!inside) continue;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const float mean_scaled = sums.scaled * inverse_width;
      const float mean_product = sums.product * inverse_width;
      dx[j] += rstd * (dout[j] * gain[j] - mean_scaled - x[j] * mean_product);
    }
    StoreVector(o.dx + at, dx);
  }
  if (!inside) return;
  float* partial = o.partial + int64_t{blockIdx.x} * 2 * o.width + column;
  StoreVector(partial, dgain);
  StoreVector(partial + o.width, dbias);
}

// A block a chunk of rows of any width: each is read twice, and sums over rows grow in memory.
template <typename T>
__global__ void __launch_bounds__(kAnyWidthThreads) BackwardAnyWidthKernel(BackwardOperands<T> o) {
  __shared__ RowSums scratch[2][kMaxWarps];
  const auto thread = static_cast<int>(threadIdx.x);
  const int64_t begin = int64_t{blockIdx.x} * o.chunk_rows;
  const int64_t end = begin + o.chunk_rows < o.rows ? begin + o.chunk_rows : o.rows;
  const float inverse_width = 1.0F / static_cast<float>(o.width);
  float* dgain = o.partial + int64_t{blockIdx.x} * 2 * o.width;
  float* dbias = dgain + o.width;
  for (int64_t row = begin; row < end; ++row) {
    const float mean = o.mean[row], rstd = o.rstd[row];
    const float* x = o.x + row * o.width;
    const T* dout = o.dout + row * o.width;
    float* dx = o.dx + row * o.width;
    RowSums sums;
    for (int i = thread; i < o.width; i += kAnyWidthThreads) {
      const float normalized = (x[i] - mean) * rstd;
      const float gradient = ToFloat(dout[i]);
      dgain[i] = (row == begin ? 0.0F : dgain[i]) + gradient * normalized;
      dbias[i] = (row == begin ? 0.0F : dbias[i]) + gradient;
      sums.scaled += gradient * o.gain[i];
      sums.product += gradient * o.gain[i] * normalized;
    }
    sums = BlockSums(sums, scratch[row % 2]);
    for (int i = thread; i < o.width; i += kAnyWidthThreads) {
      const float normalized = (x[i] - mean) * rstd;
      dx[i] += rstd * (ToFloat(dout[i]) * o.gain[i] - sums.scaled * inverse_width -
                       normalized * (sums.product * inverse_width));
    }
  }
}

// Rows of a chunk: part of the definition of the sums over rows. Short enough that a small batch fills a large GPU, long enough
// that partial sums weigh little.
int64_t ChunkRows(int64_t rows) { return std::clamp<int64_t>((rows + 1023) / 1024, 8, 64); }

template <typename T>
void LaunchBackward(Context& context, const LayerNormBackwardArgs& args, int64_t chunks,
                    const BackwardOperands<T>& o) {
  const auto blocks = static_cast<unsigned>(chunks);
  const cudaStream_t stream = context.cuda().stream;
  const bool fours =
      FoursFit(args.x) && FoursFit(args.dout) && FoursFit(args.dx) && BeginAtFours(args.gain);
  if (fours && o.width <= kColumns * kMaxBackwardThreads) {
    const int threads = (o.width / kColumns + kWarp - 1) / kWarp * kWarp;
    Launch(BackwardKernel<T>, blocks, static_cast<unsigned>(threads), 0, stream, o);
  } else {
    Launch(BackwardAnyWidthKernel<T>, blocks, kAnyWidthThreads, 0, stream, o);
  }
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

void LayerNormBackward(Context& context, const LayerNormBackwardArgs& args) {
  const int64_t rows = args.x.rows();
  const int64_t width = args.x.dim(-1);
  if (rows == 0) {
    if (args.accumulate) return;
    FillBytes(context, args.dgain.raw(), 0, args.dgain.bytes());
    FillBytes(context, args.dbias.raw(), 0, args.dbias.bytes());
    return;
  }
  const int64_t chunk_rows = ChunkRows(rows);
  const int64_t chunks = (rows + chunk_rows - 1) / chunk_rows;
  auto* partial = context.Cache<CudaScratch>().Take<float>(chunks * 2 * width);
  DispatchFloat(args.dout.dtype(), [&]<typename T>(T) {
    LaunchBackward(context, args, chunks, BackwardOperands<T>(args, partial, chunk_rows));
  });
  SumPartialRows(context, partial, chunks, 2 * width, width, args.dgain.data<float>(),
                 args.accumulate);
  SumPartialRows(context, partial + width, chunks, 2 * width, width, args.dbias.data<float>(),
                 args.accumulate);
}

}  // namespace entrain::cuda
