#include <algorithm>
#include <vector>

#include "runtime/device/device_memory.h"
#include "runtime/kernels/cuda_partials.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/reduce.h"

namespace entrain::cuda {
namespace {

// Rows of a chunk: part of the definition of a column's sum. Each of a block's warps adds up every eighth of them.
constexpr int64_t kChunkRows = 256;
constexpr int kColumnWarps = 8;

// Elements of a chunk of a sum of squares, and threads.
constexpr int64_t kChunk = 16384;
constexpr int kThreads = 256;

__device__ __forceinline__ void AddSquare(float x, double& sum) {
  const auto value = static_cast<double>(x);
  sum += value * value;
}

__global__ void __launch_bounds__(kThreads)
    SumOfSquaresKernel(const float* x, int64_t size, bool fours, double* partial) {
  __shared__ double scratch[kMaxWarps];
  const int64_t begin = blockIdx.x * kChunk;
  const int64_t rest = size - begin;
  const auto thread = static_cast<int>(threadIdx.x);
  double sum = 0.0;
  if (fours && rest >= kChunk) {
#pragma unroll 4
    for (int i = 4 * thread; i < kChunk; i += 4 * kThreads) {
      float values[4];
      Load4(x + begin + i, values);
#pragma unroll
      for (const float value : values) AddSquare(value, sum);
    }
  } else {
    const auto count = static_cast<int>(rest < kChunk ? rest : kChunk);
    for (int i = thread; i < count; i += kThreads) AddSquare(x[begin + i], sum);
  }
  sum = BlockReduce(sum, scratch, SumOf());
  if (thread == 0) partial[blockIdx.x] = sum;
}

int64_t ChunksOf(const TensorView& x) { return (x.size() + kChunk - 1) / kChunk; }

// One block.
__global__ void __launch_bounds__(kThreads)
    SumPartialsKernel(const double* partial, int64_t chunks, double* sum) {
  __shared__ double scratch[kMaxWarps];
  const double total = SumOfPartials(partial, chunks, scratch);
  if (threadIdx.x == 0) *sum = total;
}

constexpr int kMomentThreads = 1024;

// Block l·H + h: head h of layer l. Warp w takes the rows of batch entries w, w + 32, …
__global__ void __launch_bounds__(kMomentThreads)
    EntropyMomentsKernel(const float* entropy, int64_t batch, int64_t heads, int64_t positions,
                         HeadMoments* moments) {
  __shared__ double scratch[kMaxWarps];
  __shared__ float float_scratch[kMaxWarps];
  const int64_t first_row = blockIdx.x / heads * batch * heads + blockIdx.x % heads;
  double sum = 0.0, sum_of_squares = 0.0;
  float min = entropy[first_row * positions];
  float max = min;
  for (int64_t b = threadIdx.x / kWarp; b < batch; b += kMomentThreads / kWarp) {
    const float* row = entropy + (first_row + b * heads) * positions;
#pragma unroll 4
    for (int64_t t = threadIdx.x % kWarp; t < positions; t += kWarp) {
      const float value = row[t];
      sum += static_cast<double>(value);
      AddSquare(value, sum_of_squares);
      min = MinOf()(value, min);
      max = MaxOf()(value, max);
    }
  }
  const HeadMoments result = {.sum = BlockReduce(sum, scratch, SumOf()),
                              .sum_of_squares = BlockReduce(sum_of_squares, scratch, SumOf()),
                              .min = BlockReduce(min, float_scratch, MinOf()),
                              .max = BlockReduce(max, float_scratch, MaxOf())};
  if (threadIdx.x == 0) moments[blockIdx.x] = result;
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
    SumRows<n>(context, x, kColumnWarps, {.data = out, .accumulate = args.accumulate});
    return;
  }
  auto* partial = context.Cache<CudaScratch>().Take<float>(chunks * columns);
  SumRows<n>(context, x, kColumnWarps, {.data = partial, .chunk_stride = columns});
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
  const bool fours = FoursFit(args.x) && args.begin % 4 == 0 && columns % 4 == 0;
  DispatchFloat(args.x.dtype(), [&]<typename T>(T) {
    DispatchVector(fours,
                   [&]<int n>(std::integral_constant<int, n>) { SumColumns<n, T>(context, args); });
  });
}

std::vector<double> SumsOfSquares(Context& context, const std::vector<TensorView>& vectors) {
  std::vector<double> sums(vectors.size());
  int64_t most_chunks = 0;
  for (const TensorView& x : vectors) most_chunks = std::max(most_chunks, ChunksOf(x));
  if (most_chunks == 0) return sums;
  // One vector after another, so the next one's partial sums may take the place of the last one's.
  const auto count = static_cast<int64_t>(vectors.size());
  auto* found = context.Cache<CudaScratch>().Take<double>(count + most_chunks);
  double* partial = found + count;
  const cudaStream_t stream = context.cuda().stream;
  for (int64_t i = 0; i < count; ++i) {
    const TensorView& x = vectors[static_cast<size_t>(i)];
    const int64_t chunks = ChunksOf(x);
    if (chunks > 0) {
      Launch(SumOfSquaresKernel, static_cast<unsigned>(chunks), kThreads, 0, stream,
             x.data<float>(), x.size(), BeginAtFours(x), partial);
    }
    Launch(SumPartialsKernel, 1, kThreads, 0, stream, partial, chunks, found + i);
  }
  CopyToHost(context, found, sums.data(), count * static_cast<int64_t>(sizeof(double)));
  return sums;
}

void EntropyMoments(Context& context, const TensorView& entropy, HeadMoments* moments) {
  const int64_t count = entropy.dim(0) * entropy.dim(2);  // of heads, in all layers
  if (count == 0) return;
  auto* found = context.Cache<CudaScratch>().Take<HeadMoments>(count);
  Launch(EntropyMomentsKernel, static_cast<unsigned>(count), kMomentThreads, 0,
         context.cuda().stream, entropy.data<float>(), entropy.dim(1), entropy.dim(2),
         entropy.dim(3), found);
  CopyToHost(context, found, moments, count * static_cast<int64_t>(sizeof(HeadMoments)));
}

}  // namespace entrain::cuda
