// A radix sort, least significant digit first. Each pass is stable: an element's place is what the counts of digits before it
// say, in the order of tiles, of the threads of a tile and of the elements of a thread.
#include <bit>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/token_sort.cuh"

namespace entrain::cuda {
namespace {

constexpr int kDigitBits = 4;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
// A thread takes consecutive elements.
constexpr int kElements = 8;
constexpr int kTile = kThreads * kElements;
constexpr int kDigitsOfWarp = kDigits / kWarps;

struct Scratch {
  CudaScratch pairs;
  CudaScratch tile_counts;
};

struct Pairs {
  int32_t* row;
  int32_t* position;
};

// How often each digit is among the elements of each thread.
using ThreadCounts = int[kDigits][kThreads];

__device__ __forceinline__ int DigitOf(int32_t row, int shift) {
  return (row >> shift) & (kDigits - 1);
}

__device__ __forceinline__ int FirstElement() {
  return static_cast<int>(blockIdx.x) * kTile + static_cast<int>(threadIdx.x) * kElements;
}

// Ends with a barrier.
__device__ __forceinline__ void CountDigits(const int32_t* rows, int count, int shift,
                                            ThreadCounts& counts) {
  for (int digit = 0; digit < kDigits; ++digit) counts[digit][threadIdx.x] = 0;
  const int first = FirstElement();
  const int end = MinOf()(count, first + kElements);
  for (int i = first; i < end; ++i) ++counts[DigitOf(rows[i], shift)][threadIdx.x];
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads)
    TableRowsKernel(const int32_t* tokens, int count, int64_t first_token, int32_t table_rows,
                    Pairs pairs) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i >= count) return;
  const int64_t row = tokens[i] - first_token;
  pairs.row[i] = 0 <= row && row < table_rows ? static_cast<int32_t>(row) : table_rows;
  pairs.position[i] = i;
}

// tile_counts[digit][tile].
__global__ void __launch_bounds__(kThreads)
    DigitCountsKernel(const int32_t* rows, int count, int shift, int* tile_counts) {
  __shared__ ThreadCounts counts;
  CountDigits(rows, count, shift, counts);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  for (int digit = warp; digit < kDigits; digit += kWarps) {
    int sum = 0;
    for (int i = lane; i < kThreads; i += kWarp) sum += counts[digit][i];
    sum = WarpReduce(sum, SumOf());
    if (lane == 0) tile_counts[digit * gridDim.x + blockIdx.x] = sum;
  }
}

// A warp turns the counts of a digit into sums over the threads before.
__device__ __forceinline__ void ScanThreads(int (&counts)[kThreads], int lane) {
  constexpr int kOfLane = kThreads / kWarp;
  int* mine = counts + lane * kOfLane;
  int sum = 0;
  for (int i = 0; i < kOfLane; ++i) sum += mine[i];
  int through = sum;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int other = ShuffleFrom(through, MaxOf()(lane - distance, 0));
    if (lane >= distance) through += other;
  }
  int before = through - sum;
  for (int i = 0; i < kOfLane; ++i) {
    const int count = mine[i];
    mine[i] = before;
    before += count;
  }
}

// Of a digit: how many there are in all tiles, and in tiles before this one.
struct DigitTotals {
  int all;
  int before;
};

__device__ __forceinline__ DigitTotals SumTiles(const int* tile_counts, int lane) {
  DigitTotals sums = {0, 0};
  for (int tile = lane; tile < static_cast<int>(gridDim.x); tile += kWarp) {
    const int count = tile_counts[tile];
    sums.all += count;
    sums.before += tile < static_cast<int>(blockIdx.x) ? count : 0;
  }
  return {WarpReduce(sums.all, SumOf()), WarpReduce(sums.before, SumOf())};
}

__global__ void __launch_bounds__(kThreads)
    ScatterKernel(Pairs from, int count, int shift, const int* tile_counts, Pairs to) {
  __shared__ ThreadCounts places;
  __shared__ DigitTotals totals[kDigits];
  CountDigits(from.row, count, shift, places);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  for (int digit = warp * kDigitsOfWarp; digit < (warp + 1) * kDigitsOfWarp; ++digit) {
    ScanThreads(places[digit], lane);
    const DigitTotals sums = SumTiles(tile_counts + digit * gridDim.x, lane);
    if (lane == 0) totals[digit] = sums;
  }
  __syncthreads();
  int smaller = 0;
  for (int digit = 0; digit < kDigits; ++digit) {
    places[digit][threadIdx.x] += smaller + totals[digit].before;
    smaller += totals[digit].all;
  }
  const int first = FirstElement();
  const int end = MinOf()(count, first + kElements);
  for (int i = first; i < end; ++i) {
    const int32_t row = from.row[i];
    const int place = places[DigitOf(row, shift)][threadIdx.x]++;
    to.row[place] = row;
    to.position[place] = from.position[i];
  }
}

}  // namespace

SortedTokens SortTokens(Context& context, const int32_t* tokens, int64_t count, int64_t first_token,
                        int64_t table_rows) {
  // Places and rows are 32-bit.
  CHECK_LE(count, int64_t{1} << 30);
  CHECK_LE(table_rows, int64_t{1} << 30);
  cudaStream_t stream = context.cuda().stream;
  auto& scratch = context.Cache<Scratch>();
  auto* memory = scratch.pairs.Take<int32_t>(4 * count);
  Pairs from{memory, memory + count}, to{memory + 2 * count, memory + 3 * count};
  const dim3 tiles(BlocksFor(count, kTile));
  auto* tile_counts = scratch.tile_counts.Take<int>(int64_t{kDigits} * tiles.x);
  const int size = static_cast<int>(count);
  Launch(TableRowsKernel, dim3(BlocksFor(count, kThreads)), dim3(kThreads), 0, stream, tokens, size,
         first_token, static_cast<int32_t>(table_rows), from);
  const int bits = std::bit_width(static_cast<uint64_t>(table_rows));
  for (int shift = 0; shift < bits; shift += kDigitBits) {
    Launch(DigitCountsKernel, tiles, dim3(kThreads), 0, stream, from.row, size, shift, tile_counts);
    Launch(ScatterKernel, tiles, dim3(kThreads), 0, stream, from, size, shift, tile_counts, to);
    std::swap(from, to);
  }
  return {from.row, from.position};
}

}  // namespace entrain::cuda
