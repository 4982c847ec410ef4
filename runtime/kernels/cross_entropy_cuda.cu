// Cross-entropy's three steps.
#include "runtime/kernels/cross_entropy_cuda.cuh"

namespace entrain::cuda {
namespace {

constexpr int kMaxThreads = 512;
// Threads of a kernel that has no block for a row.
constexpr int kFlatThreads = 256;
int ThreadsFor(const TensorView& logits) { return logits.dim(-1) >= 16384 ? kMaxThreads : 128; }

// A thread adds about a hundred exponentials in fp32; threads' sums meet in fp64.
template <typename L, int n>
__global__ void __launch_bounds__(kMaxThreads)
    SoftmaxStatisticsKernel(LogitRows<L> logits, const int32_t* targets, float* maxima,
                            double* sums, double* target_logits) {
  __shared__ float warp_maxima[kMaxWarps];
  __shared__ double warp_sums[kMaxWarps];
  const int64_t row = blockIdx.x;
  const L* from = logits.row(row);
  const int step = static_cast<int>(blockDim.x) * n;
  Normalizer mine;
  for (int first = static_cast<int>(threadIdx.x) * n; first < logits.count;
       first += step * kLoads) {
    float values[kLoads][n];
    LoadLogits(from, first, step, logits.count, values);
    Add(values, &mine);
  }
  const RowSum row_sum = SumOfRow(mine, warp_maxima, warp_sums);
  if (threadIdx.x != 0) return;
  const int target = TargetColumn(logits, targets[row]);
  maxima[row] = row_sum.max;
  sums[row] = row_sum.sum;
  target_logits[row] = target < 0 ? 0.0 : double{ToFloat(from[target])};
}

__global__ void __launch_bounds__(kFlatThreads)
    SoftmaxRescaleKernel(int64_t rows, const float* from, const float* to, double* sums) {
  const int64_t row = int64_t{blockIdx.x} * kFlatThreads + threadIdx.x;
  if (row < rows) sums[row] *= exp(double{from[row]} - double{to[row]});
}

__global__ void __launch_bounds__(kFlatThreads)
    LossKernel(int64_t rows, const float* maxima, const double* sums, const double* target_logits,
               float* losses) {
  const int64_t row = int64_t{blockIdx.x} * kFlatThreads + threadIdx.x;
  if (row >= rows) return;
  losses[row] = static_cast<float>(double{maxima[row]} - target_logits[row] + log(sums[row]));
}

template <typename L, typename T, int n>
__global__ void __launch_bounds__(kMaxThreads)
    GradientKernel(LogitRows<L> logits, const int32_t* targets, const float* maxima,
                   const double* sums, T* dlogits, int64_t dlogits_stride, float scale) {
  const int64_t row = blockIdx.x;
  const RowGradient gradient{.max = maxima[row],
                             .inverse = static_cast<float>(1.0 / sums[row]),
                             .scale = scale,
                             .count = logits.count,
                             .target = TargetColumn(logits, targets[row])};
  WriteGradientFrom<n>(0, logits, logits.row(row), dlogits + row * dlogits_stride, gradient);
}

template <typename L, typename T>
void WriteGradient(Context& context, const CrossEntropyArgs& args) {
  DispatchVector(FoursFit(args.logits), [&](auto n) {
    Launch(GradientKernel<L, T, n()>, dim3(static_cast<unsigned>(args.logits.rows())),
           dim3(ThreadsFor(args.logits)), 0, context.cuda().stream,
           RowsOf<L>(args.logits, args.vocab), args.targets.data<int32_t>(), args.max.data<float>(),
           args.sum.data<double>(), args.dlogits.data<T>(), args.dlogits.row_stride(), args.scale);
  });
}

}  // namespace

void SoftmaxStatistics(Context& context, const SoftmaxStatisticsArgs& args) {
  if (args.logits.rows() == 0) return;
  DispatchFloat(args.logits.dtype(), [&]<typename L>(L) {
    DispatchVector(FoursFit(args.logits), [&](auto n) {
      Launch(SoftmaxStatisticsKernel<L, n()>, dim3(static_cast<unsigned>(args.logits.rows())),
             dim3(ThreadsFor(args.logits)), 0, context.cuda().stream,
             RowsOf<L>(args.logits, args.vocab), args.targets.data<int32_t>(),
             args.max.data<float>(), args.sum.data<double>(), args.target.data<double>());
    });
  });
}

void SoftmaxRescale(Context& context, const SoftmaxRescaleArgs& args) {
  const int64_t rows = args.sum.size();
  if (rows == 0) return;
  Launch(SoftmaxRescaleKernel, dim3(BlocksFor(rows, kFlatThreads)), dim3(kFlatThreads), 0,
         context.cuda().stream, rows, args.from.data<float>(), args.to.data<float>(),
         args.sum.data<double>());
}

void CrossEntropy(Context& context, const CrossEntropyArgs& args) {
  const int64_t rows = args.logits.rows();
  if (rows == 0) return;
  Launch(LossKernel, dim3(BlocksFor(rows, kFlatThreads)), dim3(kFlatThreads), 0,
         context.cuda().stream, rows, args.max.data<float>(), args.sum.data<double>(),
         args.target.data<double>(), args.loss.data<float>());
  if (!args.dlogits) return;
  if (args.logits.dtype() == DType::kBf16) return WriteGradient<Bf16, Bf16>(context, args);
  DispatchFloat(args.dlogits.dtype(),
                [&]<typename T>(T) { WriteGradient<float, T>(context, args); });
}

}  // namespace entrain::cuda
