#include <algorithm>

#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/entropy_penalty.h"

namespace entrain::cuda {
namespace {

constexpr int kThreads = 128;

struct Deviation {
  double delta;
  double gate;

  __device__ __forceinline__ Deviation(double entropy, double threshold, double max, double margin)
      : delta(entropy - threshold * max), gate(fabs(delta) > margin * max ? 1.0 : 0.0) {}
  __device__ __forceinline__ double penalty() const { return delta * delta * gate; }
};

__device__ __forceinline__ void PutGradient(double gradient, bool accumulate, float* sum) {
  *sum = static_cast<float>((accumulate ? static_cast<double>(*sum) : 0.0) + gradient);
}

// f32 [L, H] with any row stride.
struct HeadMatrix {
  float* data;
  int64_t stride;
  explicit HeadMatrix(const TensorView& view)
      : data(view.data<float>()), stride(view.row_stride()) {}
  __device__ __forceinline__ float& At(int64_t i, int64_t heads) const {
    return data[i / heads * stride + i % heads];
  }
};

struct HeadOperands {
  const double* sums;  // or null, and means
  const float* mean;
  double rows;
  HeadMatrix threshold, threshold_gradient;
  double max, margin;
  const double* strength;
  double count, gradient_rows;
  float* gradient;
  bool accumulate;
  double* measured;
  int64_t heads, all;
};

// One block: a model has some hundreds of heads.
__global__ void __launch_bounds__(kThreads) HeadPenaltyKernel(HeadOperands args) {
  __shared__ double scratch[kMaxWarps];
  const double scale = 2.0 * *args.strength / args.count;
  double penalty = 0.0;
  for (int64_t i = threadIdx.x; i < args.all; i += kThreads) {
    const double mean =
        args.sums != nullptr ? args.sums[2 * i] / args.rows : static_cast<double>(args.mean[i]);
    const Deviation head(mean, args.threshold.At(i, args.heads), args.max, args.margin);
    const double gradient = scale * head.delta * head.gate;
    args.gradient[i] = static_cast<float>(gradient);
    PutGradient(-args.max * gradient * args.gradient_rows, args.accumulate,
                &args.threshold_gradient.At(i, args.heads));
    args.measured[1 + i] += head.gate;
    penalty += head.penalty();
  }
  penalty = BlockReduce(penalty, scratch, SumOf());
  if (threadIdx.x == 0) args.measured[0] += penalty;
}

struct RowOperands {
  const float* entropy;  // [L, B, H, T]
  HeadMatrix threshold;
  const double* max;
  int64_t batch;
  int heads, positions;
  double margin;

  // Blocks are (l, b, h).
  __device__ __forceinline__ int64_t Head() const {
    return blockIdx.x / (heads * batch) * heads + blockIdx.x % heads;
  }
  __device__ __forceinline__ int64_t Sequence() const { return blockIdx.x / heads % batch; }
};

struct RowSums {
  double penalty;
  double open;
};

// Block (l, b, h) takes the rows of one head of one sequence, and writes their sums to partials[l, h, b].
__global__ void __launch_bounds__(kThreads) RowPenaltyKernel(RowOperands args, RowSums* partials) {
  __shared__ double scratch[kMaxWarps];
  const double threshold = args.threshold.At(args.Head(), args.heads);
  const float* entropy = args.entropy + int64_t{blockIdx.x} * args.positions;
  double penalty = 0.0, open = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < args.positions; i += kThreads) {
    const Deviation row(entropy[i], threshold, args.max[i], args.margin);
    penalty += row.penalty();
    open += row.gate;
  }
  penalty = BlockReduce(penalty, scratch, SumOf());
  open = BlockReduce(open, scratch, SumOf());
  if (threadIdx.x == 0) partials[args.Head() * args.batch + args.Sequence()] = {penalty, open};
}

// Block i adds partials[i, ·]: the penalty to penalties[i].
__global__ void __launch_bounds__(kThreads)
    JoinSequencesKernel(const RowSums* partials, int64_t batch, double* penalties,
                        double* measured) {
  __shared__ double scratch[kMaxWarps];
  const RowSums* from = partials + blockIdx.x * batch;
  double penalty = 0.0, open = 0.0;
  for (int64_t b = threadIdx.x; b < batch; b += kThreads) {
    penalty += from[b].penalty;
    open += from[b].open;
  }
  penalty = BlockReduce(penalty, scratch, SumOf());
  open = BlockReduce(open, scratch, SumOf());
  if (threadIdx.x > 0) return;
  penalties[blockIdx.x] = penalty;
  measured[1 + blockIdx.x] += open;
}

// One block.
__global__ void __launch_bounds__(kThreads)
    AddPenaltiesKernel(const double* penalties, int64_t count, double* measured) {
  __shared__ double scratch[kMaxWarps];
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += penalties[i];
  sum = BlockReduce(sum, scratch, SumOf());
  if (threadIdx.x == 0) measured[0] += sum;
}

// Block (b, h), of one layer.
__global__ void __launch_bounds__(kThreads)
    RowGradientKernel(RowOperands args, const double* strength, double count, float* gradients,
                      double* partials) {
  __shared__ double scratch[kMaxWarps];
  const double scale = 2.0 * *strength / count;
  const double threshold = args.threshold.At(args.Head(), args.heads);
  const int64_t offset = int64_t{blockIdx.x} * args.positions;
  double sum = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < args.positions; i += kThreads) {
    const double max = args.max[i];
    const Deviation row(args.entropy[offset + i], threshold, max, args.margin);
    const double gradient = scale * row.delta * row.gate;
    sum -= max * gradient;
    gradients[offset + i] = static_cast<float>(gradient);
  }
  sum = BlockReduce(sum, scratch, SumOf());
  if (threadIdx.x == 0) partials[args.Head() * args.batch + args.Sequence()] = sum;
}

// Block h.
__global__ void __launch_bounds__(kThreads)
    ThresholdGradientKernel(const double* partials, int64_t batch, bool accumulate,
                            float* gradient) {
  __shared__ double scratch[kMaxWarps];
  double sum = 0.0;
  for (int64_t b = threadIdx.x; b < batch; b += kThreads) sum += partials[blockIdx.x * batch + b];
  sum = BlockReduce(sum, scratch, SumOf());
  if (threadIdx.x == 0) PutGradient(sum, accumulate, gradient + blockIdx.x);
}

}  // namespace

void HeadPenalty(Context& context, const HeadPenaltyArgs& args) {
  if (args.gradient.size() == 0) return;
  Launch(HeadPenaltyKernel, 1, kThreads, 0, context.cuda().stream,
         HeadOperands{.sums = args.sums ? args.sums.data<double>() : nullptr,
                      .mean = args.mean ? args.mean.data<float>() : nullptr,
                      .rows = static_cast<double>(args.rows),
                      .threshold = HeadMatrix(args.threshold),
                      .threshold_gradient = HeadMatrix(args.threshold_gradient),
                      .max = args.max_entropy,
                      .margin = args.margin,
                      .strength = args.strength.data<double>(),
                      .count = static_cast<double>(args.count),
                      .gradient_rows = static_cast<double>(args.gradient_rows),
                      .gradient = args.gradient.data<float>(),
                      .accumulate = args.accumulate,
                      .measured = args.measured.data<double>(),
                      .heads = args.gradient.dim(1),
                      .all = args.gradient.size()});
}

void RowPenalty(Context& context, const RowPenaltyArgs& args) {
  if (args.entropy.size() == 0) return;
  const int64_t batch = args.entropy.dim(1);
  const int64_t all = args.threshold.size();
  auto* partials = context.Cache<CudaScratch>().Take<RowSums>(all * batch + (all + 1) / 2);
  auto* penalties = reinterpret_cast<double*>(partials + all * batch);
  const RowOperands operands{.entropy = args.entropy.data<float>(),
                             .threshold = HeadMatrix(args.threshold),
                             .max = args.max_entropy.data<double>(),
                             .batch = batch,
                             .heads = static_cast<int>(args.entropy.dim(2)),
                             .positions = static_cast<int>(args.entropy.dim(3)),
                             .margin = args.margin};
  cudaStream_t stream = context.cuda().stream;
  auto* measured = args.measured.data<double>();
  Launch(RowPenaltyKernel, static_cast<unsigned>(all * batch), kThreads, 0, stream, operands,
         partials);
  Launch(JoinSequencesKernel, static_cast<unsigned>(all), kThreads, 0, stream, partials, batch,
         penalties, measured);
  Launch(AddPenaltiesKernel, 1, kThreads, 0, stream, penalties, all, measured);
}

void RowPenaltyGradient(Context& context, const RowPenaltyGradientArgs& args) {
  const int64_t batch = args.entropy.dim(0);
  const int64_t heads = args.entropy.dim(1);
  if (heads == 0) return;
  auto* partials = context.Cache<CudaScratch>().Take<double>(std::max<int64_t>(heads * batch, 1));
  const RowOperands operands{.entropy = args.entropy.data<float>(),
                             .threshold = HeadMatrix(args.threshold.Reshape({1, heads})),
                             .max = args.max_entropy.data<double>(),
                             .batch = batch,
                             .heads = static_cast<int>(heads),
                             .positions = static_cast<int>(args.entropy.dim(2)),
                             .margin = args.margin};
  cudaStream_t stream = context.cuda().stream;
  if (args.entropy.size() > 0) {
    Launch(RowGradientKernel, static_cast<unsigned>(heads * batch), kThreads, 0, stream, operands,
           args.strength.data<double>(), static_cast<double>(args.count),
           args.gradient.data<float>(), partials);
  }
  Launch(ThresholdGradientKernel, static_cast<unsigned>(heads), kThreads, 0, stream, partials,
         args.entropy.size() > 0 ? batch : 0, args.accumulate,
         args.threshold_gradient.data<float>());
}

}  // namespace entrain::cuda
