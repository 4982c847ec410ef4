// Sums of many blocks: each leaves a partial result, and a kernel that follows adds them up in an order that their number alone
// determines. Blocks' shares are chunks of a fixed size, so a sum is a function of its operands, whatever the device.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDA_PARTIALS_CUH_
#define ENTRAIN_RUNTIME_KERNELS_CUDA_PARTIALS_CUH_

#include <cstdint>

#include "runtime/device/context.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elementwise.cuh"

namespace entrain::cuda {

// ---- sums over everything ----

// Every thread of the block gets the sum of partial[0 .. count) in fp64. `scratch`: shared, kMaxWarps elements.
__device__ __forceinline__ double SumOfPartials(const double* partial, int64_t count,
                                                double* scratch) {
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  return BlockReduce(sum, scratch, SumOf());
}

inline constexpr int kPartialThreads = 256;

template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    SumPartialsKernel(const double* partial, int64_t count, double* sum) {
  __shared__ double scratch[kMaxWarps];
  const double total = SumOfPartials(partial, count, scratch);
  if (threadIdx.x == 0) *sum = total;
}

// sum = Σ partial[0 .. count), in an order of count alone.
inline void SumPartials(Context& context, const double* partial, int64_t count, double* sum) {
  Launch(SumPartialsKernel<kPartialThreads>, 1, kPartialThreads, 0, context.cuda().stream, partial,
         count, sum);
}

// ---- sums over rows ----

// Where sums of columns go: those of chunk i, part p to data + i · chunk_stride, or added to what is there.
struct ColumnSums {
  float* data = nullptr;
  int64_t chunk_stride = 0;
  bool accumulate = false;
};

// Rows of x that a kernel sums, in chunks.
template <typename T>
struct SummedRows {
  const T* data;  // the first of the columns
  int64_t stride;
  int64_t rows;
  int64_t columns;
  int64_t chunk_rows;
};

// Rows whose loads a warp has under way.
inline constexpr int kRowsAhead = 8;

// Σ x[r, column .. column + n) over rows warp, warp + warps, … of the `count` from `from` on.
template <int n, typename T>
__device__ __forceinline__ void SumEveryRow(const T* from, int64_t stride, int count, int warp,
                                            int warps, float (&sum)[n]) {
  int row = warp;
  for (; row + (kRowsAhead - 1) * warps < count; row += kRowsAhead * warps) {
    float values[kRowsAhead][n];
#pragma unroll
    for (int k = 0; k < kRowsAhead; ++k) LoadVector(from + (row + k * warps) * stride, values[k]);
#pragma unroll
    for (int k = 0; k < kRowsAhead; ++k) {
#pragma unroll
      for (int j = 0; j < n; ++j) sum[j] += values[k][j];
    }
  }
  for (; row < count; row += warps) {
    float values[n];
    LoadVector(from + row * stride, values);
#pragma unroll
    for (int j = 0; j < n; ++j) sum[j] += values[j];
  }
}

// out[chunk, c] (+)= Σ x[r, c] over the rows of chunk blockIdx.y, for the n · kWarp columns of blockIdx.x, n a lane. Warp w of
// the block's W sums rows w, w + W, …; the warps' sums are added in order. n > 1 needs rows of such vectors.
//
// The compiler is told how many threads there are: else it would spare registers for more, and load one row after another.
template <int kMostWarps, int n, typename T>
__global__ void __launch_bounds__(kMostWarps* kWarp, kMaxWarps / kMostWarps)
    SumRowsKernel(SummedRows<T> x, ColumnSums out) {
  auto* shared = reinterpret_cast<float*>(DynamicShared());  // [warps, n · kWarp]
  const auto thread = static_cast<int>(threadIdx.x);
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  const int64_t first = int64_t{blockIdx.x} * kWarp * n;  // of the block's columns
  const int64_t column = first + thread % kWarp * n;
  float sum[n] = {};
  if (column < x.columns) {
    const int64_t begin = blockIdx.y * x.chunk_rows;
    const int64_t rest = x.rows - begin;
    const auto count = static_cast<int>(rest < x.chunk_rows ? rest : x.chunk_rows);
    SumEveryRow(x.data + begin * x.stride + column, x.stride, count, thread / kWarp, warps, sum);
  }
  StoreVector(shared + thread * n, sum);
  __syncthreads();
  if (thread >= kWarp * n || first + thread >= x.columns) return;
  float total = 0.0F;
  for (int warp = 0; warp < warps; ++warp) total += shared[warp * kWarp * n + thread];
  float* result = out.data + blockIdx.y * out.chunk_stride + first + thread;
  *result = out.accumulate ? *result + total : total;
}

// `warps` of a block: n at least, kMostWarps at most.
template <int kMostWarps, int n, typename T>
void SumRows(Context& context, const SummedRows<T>& x, int warps, const ColumnSums& out) {
  const dim3 grid(BlocksFor(x.columns, kWarp * n), BlocksFor(x.rows, x.chunk_rows));
  Launch(SumRowsKernel<kMostWarps, n, T>, grid, static_cast<unsigned>(warps * kWarp),
         static_cast<size_t>(warps * kWarp * n) * sizeof(float), context.cuda().stream, x, out);
}

// out[c] (+)= Σ partial[i, c] over the rows of a dense [rows, stride], for `columns` columns.
inline void SumPartialRows(Context& context, const float* partial, int64_t rows, int64_t stride,
                           int64_t columns, float* out, bool accumulate) {
  // More warps have no rows to sum.
  int warps = kMaxWarps;
  while (warps > 1 && warps / 2 >= rows) warps /= 2;
  SumRows<kMaxWarps, 1>(
      context,
      SummedRows<float>{
          .data = partial, .stride = stride, .rows = rows, .columns = columns, .chunk_rows = rows},
      warps, {.data = out, .accumulate = accumulate});
}

}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDA_PARTIALS_CUH_
