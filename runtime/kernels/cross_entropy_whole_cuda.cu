// Cross-entropy over a whole vocabulary in one kernel: a row is read from memory once, and its gradient written.
#include <algorithm>

#include "runtime/kernels/cross_entropy_cuda.cuh"

namespace entrain::cuda {

namespace {

constexpr int kMostThreads = 1024;
constexpr int kFewThreads = 128;
constexpr int64_t kWideRow = 8192;  // from here on, most threads

// Of static shared memory, and more.
constexpr int64_t kOwnSharedBytes = 1024;

// Columns [0, held) of a row are kept in shared memory between the two readings, mostly all: GPT-2's 50,257 take 201 KB of a Hopper's
// 227. The rest, of a larger vocabulary or on an A100, is read again, mostly from the L2 cache: 38 KB a row on an A100, which are
// 4 MB for all its blocks. One block fills a multiprocessor, and does not read while it writes; but a row takes it about two thirds
// of the time that memory takes for its share, and multiprocessors go out of step, so that memory stays the limit. Two blocks of half
// the shared memory would take turns, and read 27 MB of rows again through the L2 cache.
template <typename T, int n>
__global__ void __launch_bounds__(kMostThreads)
    WholeCrossEntropyKernel(LogitRows logits, const int32_t* targets, float* losses, T* dlogits,
                            int64_t dlogits_stride, float scale, int held) {
  __shared__ float warp_maxima[kMaxWarps];
  __shared__ double warp_sums[kMaxWarps];
  auto* shared = reinterpret_cast<float*>(DynamicShared());
  const int64_t row = blockIdx.x;
  const float* from = logits.row(row);
  T* to = dlogits + row * dlogits_stride;
  const int step = static_cast<int>(blockDim.x) * n;
  const int mine = static_cast<int>(threadIdx.x) * n;
  const int target = TargetColumn(logits, targets[row]);
  const float target_logit = target < 0 ? 0.0F : from[target];
  Normalizer normalizer;
  for (int first = mine; first < logits.count; first += step * kLoads) {
    float values[kLoads][n];
    LoadLogits(from, first, step, logits.count, values);
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      if (first + k * step < held) StoreVector(shared + first + k * step, values[k]);
    }
    Add(values, &normalizer);
  }
  // Behind its barriers all have read the whole row.
  const auto [max, sum] = SumOfRow(normalizer, warp_maxima, warp_sums);
  if (threadIdx.x == 0) {
    losses[row] = static_cast<float>(double{max} - double{target_logit} + log(sum));
  }
  const RowGradient gradient{.max = max,
                             .inverse = static_cast<float>(1.0 / sum),
                             .scale = scale,
                             .count = logits.count,
                             .target = target};
  // What is held was written by this same thread.
  for (int column = mine; column < held; column += step) {
    float values[n];
    LoadVector(shared + column, values);
    gradient.Apply(column, values);
    StoreVector(to + column, values);
  }
  WriteGradientFrom<n>(held, logits, from, to, gradient);
}

template <int n, typename T>
void LaunchWhole(Context& context, const CrossEntropyArgs& args) {
  const int64_t most = (context.cuda().shared_bytes - kOwnSharedBytes) / 4 / n * n;
  const int64_t held = std::min(most, (args.vocab.count + n - 1) / n * n);
  const auto bytes = static_cast<size_t>(held) * sizeof(float);
  const auto kernel = WholeCrossEntropyKernel<T, n>;
  AllowSharedBytes(kernel, bytes);
  Launch(kernel, dim3(static_cast<unsigned>(args.logits.rows())),
         dim3(args.logits.dim(-1) >= kWideRow ? kMostThreads : kFewThreads), bytes,
         context.cuda().stream, RowsOf(args.logits, args.vocab), args.targets.data<int32_t>(),
         args.loss.data<float>(), args.dlogits.data<T>(), args.dlogits.row_stride(), args.scale,
         static_cast<int>(held));
}

}  // namespace

void WholeCrossEntropy(Context& context, const CrossEntropyArgs& args) {
  if (args.logits.rows() == 0) return;
  if (!args.dlogits) {  // nothing is read twice
    entrain::SoftmaxStatistics(context, {.logits = args.logits,
                                         .targets = args.targets,
                                         .vocab = args.vocab,
                                         .max = args.max,
                                         .sum = args.sum,
                                         .target = args.target});
    return entrain::CrossEntropy(context, args);
  }
  DispatchFloat(args.dlogits.dtype(), [&]<typename T>(T) {
    DispatchVector(FoursFit(args.logits), [&](auto n) { LaunchWhole<n(), T>(context, args); });
  });
}

}  // namespace entrain::cuda
