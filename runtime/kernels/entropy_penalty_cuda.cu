#include <algorithm>
#include <vector>

#include "runtime/device/cuda_device.h"
#include "runtime/device/device_memory.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_scratch.h"
#include "runtime/kernels/entropy_penalty.h"

namespace entrain::cuda {
namespace {

constexpr int kThreads = 128;

struct RowOperands {
  const float* entropy;
  const float* threshold;
  float* gradient;  // may be null
  const double* max_entropy;
  int64_t batch;
  int heads;
  int positions;
  double margin;
  double scale;
};

// Every thread gets the sums. All threads must call; `scratch`: shared, kMaxWarps elements.
__device__ __forceinline__ HeadPenalty SumOverBlock(const HeadPenalty& mine, double* scratch) {
  HeadPenalty sums;
  sums.penalty = BlockReduce(mine.penalty, scratch, SumOf());
  sums.open_rows = BlockReduce(mine.open_rows, scratch, SumOf());
  sums.threshold_gradient = BlockReduce(mine.threshold_gradient, scratch, SumOf());
  return sums;
}

// Block (b, h) takes the rows of one head of one sequence, and writes their sums to partials[h][b].
__global__ void __launch_bounds__(kThreads)
    RowPenaltyKernel(RowOperands args, HeadPenalty* partials) {
  __shared__ double scratch[kMaxWarps];
  const int64_t head = blockIdx.x % args.heads;
  const int64_t offset = int64_t{blockIdx.x} * args.positions;
  const double threshold = args.threshold[head];
  HeadPenalty mine;
  for (int i = static_cast<int>(threadIdx.x); i < args.positions; i += kThreads) {
    const double max = args.max_entropy[i];
    const double delta = args.entropy[offset + i] - threshold * max;
    const double gate = fabs(delta) > args.margin * max ? 1.0 : 0.0;
    const double gradient = args.scale * delta * gate;
    mine.penalty += delta * delta * gate;
    mine.open_rows += gate;
    mine.threshold_gradient -= max * gradient;
    if (args.gradient != nullptr) args.gradient[offset + i] = static_cast<float>(gradient);
  }
  const HeadPenalty sums = SumOverBlock(mine, scratch);
  if (threadIdx.x == 0) partials[head * args.batch + blockIdx.x / args.heads] = sums;
}

// Block h adds partials[h][·].
__global__ void __launch_bounds__(kThreads)
    HeadPenaltyKernel(const HeadPenalty* partials, int64_t batch, HeadPenalty* sums) {
  __shared__ double scratch[kMaxWarps];
  const HeadPenalty* from = partials + blockIdx.x * batch;
  HeadPenalty mine;
  for (int64_t b = threadIdx.x; b < batch; b += kThreads) {
    mine.penalty += from[b].penalty;
    mine.open_rows += from[b].open_rows;
    mine.threshold_gradient += from[b].threshold_gradient;
  }
  const HeadPenalty sum = SumOverBlock(mine, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// The largest entropies of rows, which are the same from call to call, on the device.
class MaxEntropy {
 public:
  const double* Upload(Context& context, const double* values, int64_t count) {
    if (!std::equal(values, values + count, host_.begin(), host_.end())) {
      host_.assign(values, values + count);
      device_ = memory_.Take<double>(count);
      CopyToDevice(context, values, device_, count * static_cast<int64_t>(sizeof(double)));
    }
    return device_;
  }

 private:
  std::vector<double> host_;
  CudaScratch memory_;
  double* device_ = nullptr;
};

struct Scratch {
  MaxEntropy max_entropy;
  CudaScratch sums;
};

}  // namespace

void RowPenalty(Context& context, const RowPenaltyArgs& args, HeadPenalty* sums) {
  const int64_t batch = args.entropy.dim(0);
  const int64_t heads = args.entropy.dim(1);
  const int64_t positions = args.entropy.dim(2);
  std::fill_n(sums, heads, HeadPenalty{});
  if (args.entropy.size() == 0) return;
  auto& scratch = context.Cache<Scratch>();
  auto* head_sums = scratch.sums.Take<HeadPenalty>(heads + heads * batch);
  HeadPenalty* partials = head_sums + heads;
  const RowOperands operands{
      .entropy = args.entropy.data<float>(),
      .threshold = args.threshold.data<float>(),
      .gradient = args.gradient ? args.gradient.data<float>() : nullptr,
      .max_entropy = scratch.max_entropy.Upload(context, args.max_entropy, positions),
      .batch = batch,
      .heads = static_cast<int>(heads),
      .positions = static_cast<int>(positions),
      .margin = args.margin,
      .scale = args.scale};
  cudaStream_t stream = context.cuda().stream;
  Launch(RowPenaltyKernel, dim3(static_cast<unsigned>(batch * heads)), dim3(kThreads), 0, stream,
         operands, partials);
  Launch(HeadPenaltyKernel, dim3(static_cast<unsigned>(heads)), dim3(kThreads), 0, stream, partials,
         batch, head_sums);
  CopyToHost(context, head_sums, sums, heads * static_cast<int64_t>(sizeof(HeadPenalty)));
}

}  // namespace entrain::cuda
