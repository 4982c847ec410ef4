#include <algorithm>

#include "runtime/device/device_memory.h"
#include "runtime/kernels/cuda_partials.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/layernorm.h"

namespace entrain::cuda {
namespace {

constexpr int kAnyWidthThreads = 256;

// T, C: elements of dout and of dx_copy.
template <typename T, typename C>
struct BackwardOperands {
  const T* dout;
  const float* x;
  const float* gain;
  const float* mean;
  const float* rstd;
  float* dx;
  C* dx_copy;      // or null
  float* partial;  // [chunks, 2, width]: of dgain, then of dbias
  int64_t rows;
  int width;
  bool add_to_dx;

  BackwardOperands(const LayerNormBackwardArgs& args, float* partial_sums)
      : dout(args.dout.data<T>()),
        x(args.x.data<float>()),
        gain(args.gain.data<float>()),
        mean(args.mean.data<float>()),
        rstd(args.rstd.data<float>()),
        dx(args.dx.data<float>()),
        dx_copy(args.dx_copy ? args.dx_copy.data<C>() : nullptr),
        partial(partial_sums),
        rows(args.x.rows()),
        width(static_cast<int>(args.x.dim(-1))),
        add_to_dx(args.add_to_dx) {}
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

// A block's threads at most, by the rows' width. For narrow rows registers are bounded so that 1152 threads fit on a
// multiprocessor: six blocks of GPT-2's 768 columns.
constexpr int kFewThreads = 384;
constexpr int kManyThreads = 1024;
constexpr int kResidentThreads = 1152;
constexpr int kColumns = 4;

// What a thread reads of a row.
struct RowShare {
  float mean = 0.0F;
  float rstd = 0.0F;
  float x[kColumns] = {};
  float dout[kColumns] = {};
  float dx[kColumns] = {};

  template <typename T, typename C>
  __device__ __forceinline__ void Load(const BackwardOperands<T, C>& o, int64_t row, int column) {
    const int64_t at = row * o.width + column;
    mean = o.mean[row];
    rstd = o.rstd[row];
    LoadVector(o.x + at, x);
    LoadVector(o.dout + at, dout);
    if (o.add_to_dx) LoadVector(o.dx + at, dx);
  }
};

// A block a chunk, kColumns neighbouring columns a thread: their dgain and dbias stay in its registers. The next row is read before
// the sums of one are waited for.
template <int kThreads, typename T, typename C>
__global__ void __launch_bounds__(kThreads, kResidentThreads / kThreads)
    BackwardKernel(BackwardOperands<T, C> o) {
  __shared__ RowSums scratch[2][kMaxWarps];  // by turns, so that one barrier a row is enough
  const int column = kColumns * static_cast<int>(threadIdx.x);
  const bool inside = column < o.width;
  const float inverse_width = 1.0F / static_cast<float>(o.width);
  float gain[kColumns] = {}, dgain[kColumns] = {}, dbias[kColumns] = {};
  RowShare next;
  if (inside) {
    LoadVector(o.gain + column, gain);
    next.Load(o, blockIdx.x, column);
  }
  int turn = 0;
  for (int64_t row = blockIdx.x; row < o.rows; row += gridDim.x, turn ^= 1) {
    RowShare now = next;
    if (inside && row + gridDim.x < o.rows) next.Load(o, row + gridDim.x, column);
    RowSums sums;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      now.x[j] = (now.x[j] - now.mean) * now.rstd;  // normalized, from here on
      dgain[j] += now.dout[j] * now.x[j];
      dbias[j] += now.dout[j];
      now.dout[j] *= gain[j];
      sums.scaled += now.dout[j];
      sums.product += now.dout[j] * now.x[j];
    }
    sums = BlockSums(sums, scratch[turn]);
    if (!inside) continue;
    const float mean_scaled = sums.scaled * inverse_width;
    const float mean_product = sums.product * inverse_width;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      now.dx[j] += now.rstd * (now.dout[j] - mean_scaled - now.x[j] * mean_product);
    }
    const int64_t at = row * o.width + column;
    StoreVector(o.dx + at, now.dx);
    if (o.dx_copy != nullptr) StoreVector(o.dx_copy + at, now.dx);
  }
  if (!inside) return;
  float* partial = o.partial + int64_t{blockIdx.x} * 2 * o.width + column;
  StoreVector(partial, dgain);
  StoreVector(partial + o.width, dbias);
}

// A block a chunk, its rows of any width: each is read twice, and sums over rows grow in memory.
template <typename T, typename C>
__global__ void __launch_bounds__(kAnyWidthThreads)
    BackwardAnyWidthKernel(BackwardOperands<T, C> o) {
  __shared__ RowSums scratch[2][kMaxWarps];
  const auto thread = static_cast<int>(threadIdx.x);
  const float inverse_width = 1.0F / static_cast<float>(o.width);
  float* dgain = o.partial + int64_t{blockIdx.x} * 2 * o.width;
  float* dbias = dgain + o.width;
  int turn = 0;
  for (int64_t row = blockIdx.x; row < o.rows; row += gridDim.x, turn ^= 1) {
    const bool first = row == blockIdx.x;
    const float mean = o.mean[row], rstd = o.rstd[row];
    const float* x = o.x + row * o.width;
    const T* dout = o.dout + row * o.width;
    float* dx = o.dx + row * o.width;
    C* dx_copy = o.dx_copy == nullptr ? nullptr : o.dx_copy + row * o.width;
    RowSums sums;
    for (int i = thread; i < o.width; i += kAnyWidthThreads) {
      const float normalized = (x[i] - mean) * rstd;
      const float gradient = ToFloat(dout[i]);
      dgain[i] = (first ? 0.0F : dgain[i]) + gradient * normalized;
      dbias[i] = (first ? 0.0F : dbias[i]) + gradient;
      sums.scaled += gradient * o.gain[i];
      sums.product += gradient * o.gain[i] * normalized;
    }
    sums = BlockSums(sums, scratch[turn]);
    for (int i = thread; i < o.width; i += kAnyWidthThreads) {
      const float normalized = (x[i] - mean) * rstd;
      const float term = rstd * (ToFloat(dout[i]) * o.gain[i] - sums.scaled * inverse_width -
                                 normalized * (sums.product * inverse_width));
      const float result = (o.add_to_dx ? dx[i] : 0.0F) + term;
      dx[i] = result;
      if (dx_copy != nullptr) dx_copy[i] = FromFloat<C>(result);
    }
  }
}

// Into how many chunks rows fall: part of the definition of the sums over rows. Chunk c of n has the rows c, c + n, …: what blocks
// read at a time lies together in memory. Short enough that a small batch fills a large GPU, long enough that partial sums weigh
// little; and no more chunks than a Hopper has room for blocks at a time (six on each of 132), or a few would run alone in the end.
int64_t ChunksOf(int64_t rows) {
  const int64_t chunk_rows = std::clamp<int64_t>((rows + 767) / 768, 8, 128);
  return (rows + chunk_rows - 1) / chunk_rows;
}

template <typename T, typename C>
void LaunchBackward(Context& context, const LayerNormBackwardArgs& args, int64_t chunks,
                    const BackwardOperands<T, C>& o) {
  const auto blocks = static_cast<unsigned>(chunks);
  const cudaStream_t stream = context.cuda().stream;
  const bool fours = FoursFit(args.x) && FoursFit(args.dout) && FoursFit(args.dx) &&
                     BeginAtFours(args.gain, args.dx_copy);
  const int threads = (o.width / kColumns + kWarp - 1) / kWarp * kWarp;
  if (fours && threads <= kFewThreads) {
    Launch(BackwardKernel<kFewThreads, T, C>, blocks, static_cast<unsigned>(threads), 0, stream, o);
  } else if (fours && threads <= kManyThreads) {
    Launch(BackwardKernel<kManyThreads, T, C>, blocks, static_cast<unsigned>(threads), 0, stream,
           o);
  } else {
    Launch(BackwardAnyWidthKernel<T, C>, blocks, kAnyWidthThreads, 0, stream, o);
  }
}

// dgain and dbias from all chunks' sums; in one pass where they lie side by side, as in a model's gradients.
void SumChunks(Context& context, const LayerNormBackwardArgs& args, const float* partial,
               int64_t chunks) {
  const int64_t width = args.x.dim(-1);
  auto* dgain = args.dgain.data<float>();
  auto* dbias = args.dbias.data<float>();
  if (dbias == dgain + width) {
    return SumPartialRows(context, partial, chunks, 2 * width, 2 * width, dgain, args.accumulate);
  }
  SumPartialRows(context, partial, chunks, 2 * width, width, dgain, args.accumulate);
  SumPartialRows(context, partial + width, chunks, 2 * width, width, dbias, args.accumulate);
}

}  // namespace

void LayerNormBackward(Context& context, const LayerNormBackwardArgs& args) {
  const int64_t rows = args.x.rows();
  if (rows == 0) {
    if (args.accumulate) return;
    FillBytes(context, args.dgain.raw(), 0, args.dgain.bytes());
    FillBytes(context, args.dbias.raw(), 0, args.dbias.bytes());
    return;
  }
  const int64_t chunks = ChunksOf(rows);
  auto* partial = context.Cache<CudaScratch>().Take<float>(chunks * 2 * args.x.dim(-1));
  DispatchFloat(args.dout.dtype(), [&]<typename T>(T) {
    DispatchFloat(args.dx_copy.dtype(), [&]<typename C>(C) {
      LaunchBackward(context, args, chunks, BackwardOperands<T, C>(args, partial));
    });
  });
  SumChunks(context, args, partial, chunks);
}

}  // namespace entrain::cuda
