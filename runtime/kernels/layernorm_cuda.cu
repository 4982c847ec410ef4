#include "runtime/kernels/layernorm_cuda.cuh"

namespace entrain::cuda {
namespace {

constexpr int kAnyWidthThreads = 256;

// A block a row of any width, read three times.
template <typename T>
__global__ void __launch_bounds__(kAnyWidthThreads)
    ForwardAnyWidthKernel(const float* rows, LayerNormOperands<T> o) {
  __shared__ float scratch[kMaxWarps];
  const int64_t row = blockIdx.x;
  const float* x = rows + row * o.width;
  const auto thread = static_cast<int>(threadIdx.x);
  float sum = 0.0F;
  for (int i = thread; i < o.width; i += kAnyWidthThreads) sum += x[i];
  const float mean = BlockReduce(sum, scratch, SumOf()) / static_cast<float>(o.width);
  sum = 0.0F;
  for (int i = thread; i < o.width; i += kAnyWidthThreads) sum += (x[i] - mean) * (x[i] - mean);
  const float rstd = RstdOf(BlockReduce(sum, scratch, SumOf()) / static_cast<float>(o.width));
  for (int i = thread; i < o.width; i += kAnyWidthThreads) {
    const float value[1] = {x[i]};
    NormalizeElements(o.gain + i, o.bias + i, value, mean, rstd, o.out + row * o.width + i);
  }
  if (thread == 0) {
    o.mean[row] = mean;
    o.rstd[row] = rstd;
  }
}

}  // namespace

void LayerNormForward(Context& context, const LayerNormForwardArgs& args) {
  if (args.x.rows() == 0) return;
  DispatchFloat(args.out.dtype(), [&]<typename T>(T) {
    const LayerNormOperands<T> operands(args);
    if (FitsRegisters(args)) {
      LaunchLayerNorm(context, RowsInMemory{args.x.data<float>()}, operands);
    } else {
      Launch(ForwardAnyWidthKernel<T>, static_cast<unsigned>(operands.rows), kAnyWidthThreads, 0,
             context.cuda().stream, args.x.data<float>(), operands);
    }
  });
}

}  // namespace entrain::cuda
