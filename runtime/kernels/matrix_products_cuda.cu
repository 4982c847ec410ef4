#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/matrix_products.cuh"

namespace entrain::cuda {
namespace {

constexpr int kRowThreads = 128;
// Columns of a block: few, so that a matrix of a few hundred columns still has blocks for all multiprocessors.
constexpr int kColumnThreads = 64;
// Rows of a chunk, of which there are kMaxChunks at most: the chunks of a tall matrix are a multiple as long.
constexpr int64_t kChunkRows = 32;
constexpr int64_t kMaxChunks = 128;

// A block takes a row.
template <int n>
__global__ void __launch_bounds__(kRowThreads)
    RowProductsKernel(const float* a, Factors b, int columns, double* out) {
  __shared__ double scratch[kMaxWarps];
  const int64_t row = blockIdx.x;
  const float* x = a + row * columns;
  const float* y = b.data + row * b.row_step;
  const double sum = BlockProduct<n, kRowThreads>(x, y, 0, columns, scratch);
  if (threadIdx.x == 0) out[row] = sum;
}

// Block (x, y) takes columns x and chunk y of the rows, and writes partials[y][column].
__global__ void __launch_bounds__(kColumnThreads)
    ChunkProductsKernel(const float* a, Factors b, int64_t rows, int64_t columns,
                        int64_t chunk_rows, double* partials) {
  const int64_t column = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (column >= columns) return;
  const int64_t first = blockIdx.y * chunk_rows;
  const int64_t end = MinOf()(rows, first + chunk_rows);
  const float* x = a + column;
  const float* y = b.data + column * b.column_step;
  double sum = 0.0;
#pragma unroll 8
  for (int64_t row = first; row < end; ++row) {
    sum += double{x[row * columns]} * double{y[row * b.row_step]};
  }
  partials[blockIdx.y * columns + column] = sum;
}

__global__ void __launch_bounds__(kColumnThreads)
    ChunkSumsKernel(const double* partials, int64_t chunks, int64_t columns, double* out) {
  const int64_t column = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (column >= columns) return;
  double sum = 0.0;
#pragma unroll 8
  for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partials[chunk * columns + column];
  out[column] = sum;
}

struct Scratch {
  CudaScratch partials;
};

// Depends on the matrix's shape alone.
int64_t ChunkRows(int64_t rows) {
  const int64_t chunks = (rows + kChunkRows - 1) / kChunkRows;
  return kChunkRows * std::max<int64_t>(1, (chunks + kMaxChunks - 1) / kMaxChunks);
}

bool FoursFit(const Factors& b) {
  return reinterpret_cast<uintptr_t>(b.data) % (4 * sizeof(float)) == 0 && b.row_step % 4 == 0;
}

}  // namespace

void RowProducts(Context& context, const TensorView& a, const Factors& b, const TensorView& out) {
  CHECK_EQ(b.column_step, 1);
  const int64_t rows = a.dim(0);
  if (rows == 0) return;
  DispatchVector(FoursFit(a) && FoursFit(b), [&](auto n) {
    Launch(RowProductsKernel<n()>, dim3(static_cast<unsigned>(rows)), dim3(kRowThreads), 0,
           context.cuda().stream, a.data<float>(), b, static_cast<int>(a.dim(1)),
           out.data<double>());
  });
}

void ColumnProducts(Context& context, const TensorView& a, const Factors& b,
                    const TensorView& out) {
  const int64_t rows = a.dim(0), columns = a.dim(1);
  if (columns == 0) return;
  const int64_t chunk_rows = ChunkRows(rows);
  const int64_t chunks = (rows + chunk_rows - 1) / chunk_rows;
  auto* partials = context.Cache<Scratch>().partials.Take<double>(chunks * columns);
  const dim3 block(kColumnThreads);
  dim3 grid(BlocksFor(columns, kColumnThreads));
  cudaStream_t stream = context.cuda().stream;
  if (chunks > 0) {
    Launch(ChunkProductsKernel, dim3(grid.x, static_cast<unsigned>(chunks)), block, 0, stream,
           a.data<float>(), b, rows, columns, chunk_rows, partials);
  }
  Launch(ChunkSumsKernel, grid, block, 0, stream, partials, chunks, columns, out.data<double>());
}

}  // namespace entrain::cuda
