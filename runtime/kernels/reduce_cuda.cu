#include "runtime/device/device_memory.h"
#include "runtime/kernels/cuda_partials.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/cuda_squares.cuh"
#include "runtime/kernels/reduce.h"

namespace entrain::cuda {
namespace {

// Rows of a chunk: part of the definition of a column's sum. Each of a block's warps adds up every eighth of them, of as many columns
// as 16 bytes a lane are.
constexpr int64_t kChunkRows = 256;
constexpr int kColumnWarps = 8;

// Elements of a chunk of a mean.
constexpr int64_t kMeanChunk = 4096;
constexpr int kThreads = 256;

__global__ void __launch_bounds__(kSquareThreads)
    SumOfSquaresKernel(const float* x, int64_t size, bool fours, double* partial) {
  __shared__ double scratch[kMaxWarps];
  const int64_t begin = blockIdx.x * kSquareChunk;
  const double sum = BlockReduce(SquaresOfChunk(x + begin, size - begin, fours), scratch, SumOf());
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads)
    SumKernel(const float* x, int64_t size, double* partial) {
  __shared__ double scratch[kMaxWarps];
  const int64_t begin = blockIdx.x * kMeanChunk;
  const int64_t end = begin + kMeanChunk < size ? begin + kMeanChunk : size;
  double sum = 0.0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) sum += static_cast<double>(x[i]);
  sum = BlockReduce(sum, scratch, SumOf());
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block.
__global__ void __launch_bounds__(kThreads)
    AddMeanKernel(const double* partial, int64_t chunks, double size, double scale, bool accumulate,
                  double* out) {
  __shared__ double scratch[kMaxWarps];
  const double sum = SumOfPartials(partial, chunks, scratch);
  if (threadIdx.x == 0) *out = (accumulate ? *out : 0.0) + scale * (sum / size);
}

// The sums of chunks, then, in order, their sum. n: see SumRowsKernel.
template <int n, typename T>
void SumColumns(Context& context, const ColumnSumArgs& args) {
  const int64_t columns = args.end - args.begin;
  const int64_t rows = args.x.rows();
  const int64_t chunks = (rows + kChunkRows - 1) / kChunkRows;
  float* out = args.out.data<float>() + args.begin;
  const SummedRows<T> x = {.data = args.x.data<T>() + args.begin,
                           .stride = args.x.row_stride(),
                           .rows = rows,
                           .columns = columns,
                           .chunk_rows = kChunkRows};
  if (chunks == 1) {
    SumRows<kColumnWarps, n>(context, x, kColumnWarps,
                             {.data = out, .accumulate = args.accumulate});
    return;
  }
  auto* partial = context.Cache<CudaScratch>().Take<float>(chunks * columns);
  SumRows<kColumnWarps, n>(context, x, kColumnWarps, {.data = partial, .chunk_stride = columns});
  SumPartialRows(context, partial, chunks, columns, columns, out, args.accumulate);
}

}  // namespace

void ColumnSum(Context& context, const ColumnSumArgs& args) {
  const int64_t columns = args.end - args.begin;
  if (columns == 0) return;
  if (args.x.rows() == 0) {
    float* out = args.out.data<float>() + args.begin;
    if (!args.accumulate) FillBytes(context, out, 0, columns * SizeOf(DType::kF32));
    return;
  }
  DispatchFloat(args.x.dtype(), [&]<typename T>(T) {
    constexpr int n = kWideVector<T>;
    if (VectorsFit(args.x, n) && args.begin % n == 0 && columns % n == 0) {
      SumColumns<n, T>(context, args);
    } else {
      SumColumns<1, T>(context, args);
    }
  });
}

double SumOfSquares(Context& context, const TensorView& x) {
  if (x.size() == 0) return 0.0;
  const unsigned chunks = BlocksFor(x.size(), kSquareChunk);
  auto* sum = context.Cache<CudaScratch>().Take<double>(1 + chunks);
  cudaStream_t stream = context.cuda().stream;
  Launch(SumOfSquaresKernel, chunks, kSquareThreads, 0, stream, x.data<float>(), x.size(),
         BeginAtFours(x), sum + 1);
  SumPartials(context, sum + 1, chunks, sum);
  double on_host = 0.0;
  CopyToHost(context, sum, &on_host, sizeof(double));
  return on_host;
}

void AddMean(Context& context, const AddMeanArgs& args) {
  const unsigned chunks = BlocksFor(args.x.size(), kMeanChunk);
  auto* partial = context.Cache<CudaScratch>().Take<double>(chunks);
  cudaStream_t stream = context.cuda().stream;
  Launch(SumKernel, chunks, kThreads, 0, stream, args.x.data<float>(), args.x.size(), partial);
  Launch(AddMeanKernel, 1, kThreads, 0, stream, partial, int64_t{chunks},
         static_cast<double>(args.x.size()), args.scale, args.accumulate, args.out.data<double>());
}

}  // namespace entrain::cuda
