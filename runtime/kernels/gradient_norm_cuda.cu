#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/kernels/cuda_partials.cuh"
#include "runtime/kernels/cuda_squares.cuh"
#include "runtime/kernels/cuda_table.cuh"
#include "runtime/kernels/gradient_norm.h"

namespace entrain::cuda {
namespace {

// A vector, and the first of its chunks among those of all.
struct Vector {
  const float* data;
  int64_t size;
  int64_t first_chunk;
  bool operator==(const Vector&) const = default;
};

// Where a group's chunks begin and end.
struct Group {
  int64_t begin;
  int64_t end;
  bool operator==(const Group&) const = default;
};

__global__ void __launch_bounds__(kSquareThreads)
    ChunkSquaresKernel(const Vector* vectors, int count, double* partial) {
  __shared__ double scratch[kMaxWarps];
  const Vector x = EntryOfBlock(vectors, count, &Vector::first_chunk, blockIdx.x);
  const int64_t begin = (blockIdx.x - x.first_chunk) * kSquareChunk;
  const bool fours = reinterpret_cast<uintptr_t>(x.data) % (4 * sizeof(float)) == 0;
  const double sum =
      BlockReduce(SquaresOfChunk(x.data + begin, x.size - begin, fours), scratch, SumOf());
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Block g: the chunks of group g.
__global__ void __launch_bounds__(kSquareThreads)
    GroupSquaresKernel(const double* partial, const Group* groups, double* sums) {
  __shared__ double scratch[kMaxWarps];
  const Group group = groups[blockIdx.x];
  const double sum = SumOfPartials(partial + group.begin, group.end - group.begin, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

struct Tables {
  CudaTable<Vector> vectors;
  CudaTable<Group> groups;
};

__global__ void __launch_bounds__(kWarp)
    GradientScaleKernel(const double* squares, int count, const double* finite, int finite_count,
                        double clip, double* norm_out, float* scale_out) {
  if (threadIdx.x > 0) return;
  double sum = 0.0;
  for (int i = 0; i < count; ++i) sum += squares[i];
  const double norm = sqrt(sum);
  bool all_finite = std::isfinite(norm);
  for (int i = 0; i < finite_count; ++i) all_finite = all_finite && std::isfinite(finite[i]);
  const double ratio = clip / (norm + 1e-6);
  const double scale = clip > 0.0 && ratio < 1.0 ? ratio : 1.0;
  *norm_out = norm;
  *scale_out = all_finite ? static_cast<float>(scale) : __uint_as_float(0x7fc00000U);
}

}  // namespace

void SumsOfSquares(Context& context, const std::vector<std::vector<TensorView>>& groups,
                   const TensorView& sums) {
  std::vector<Vector> vectors;
  std::vector<Group> ranges;
  int64_t chunks = 0;
  for (const std::vector<TensorView>& group : groups) {
    const int64_t begin = chunks;
    for (const TensorView& x : group) {
      if (x.size() == 0) continue;
      vectors.push_back({.data = x.data<float>(), .size = x.size(), .first_chunk = chunks});
      chunks += (x.size() + kSquareChunk - 1) / kSquareChunk;
    }
    ranges.push_back({begin, chunks});
  }
  if (ranges.empty()) return;
  auto& tables = context.Cache<Tables>();
  const auto count = static_cast<int>(vectors.size());
  auto* partial = context.Cache<CudaScratch>().Take<double>(std::max<int64_t>(chunks, 1));
  cudaStream_t stream = context.cuda().stream;
  if (chunks > 0) {
    Launch(ChunkSquaresKernel, static_cast<unsigned>(chunks), kSquareThreads, 0, stream,
           tables.vectors.Put(context, std::move(vectors)), count, partial);
  }
  const auto num_groups = static_cast<unsigned>(ranges.size());
  Launch(GroupSquaresKernel, num_groups, kSquareThreads, 0, stream, partial,
         tables.groups.Put(context, std::move(ranges)), sums.data<double>());
}

void GradientScale(Context& context, const GradientScaleArgs& args) {
  Launch(GradientScaleKernel, 1, kWarp, 0, context.cuda().stream, args.squares.data<double>(),
         static_cast<int>(args.squares.size()), args.must_be_finite.data<double>(),
         static_cast<int>(args.must_be_finite.size()), args.clip, args.norm.data<double>(),
         args.scale.data<float>());
}

}  // namespace entrain::cuda
