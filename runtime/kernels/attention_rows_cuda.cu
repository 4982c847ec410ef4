// What attention's backward needs beyond the scores: a few numbers for each row of them, and the temperature's gradient in
// the end.
#include "runtime/kernels/attention_rows_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

constexpr int kBlockRows = RowTerms::kBlock;
constexpr int kThreads = kBlockRows * kRowLanes;

template <typename T>
__global__ void __launch_bounds__(kThreads) RowTermsKernel(RowOperands<T> operands) {
  __shared__ float dots[kBlockRows];
  const unsigned pair_blocks = static_cast<unsigned>(operands.rows.padded_length) / kBlockRows;
  const int pair = static_cast<int>(blockIdx.x / pair_blocks);
  const int first = static_cast<int>(blockIdx.x % pair_blocks) * kBlockRows;
  const int thread = static_cast<int>(threadIdx.x);
  const int row = thread / kRowLanes;
  const float dot = RowDot(operands, pair, first + row, operands.shape.width, operands.fours);
  if (thread % kRowLanes == 0) dots[row] = dot;
  __syncthreads();
  if (thread < kBlockRows) {
    const int position = first + thread;
    WriteTerms(operands, pair, position, dots[thread], operands.rows.Of(pair, position));
  }
}

struct TemperatureOperands {
  Shape shape;
  Temperature temperature;
  RowTerms rows;
  float* gradient;
  int columns;  // of the gradient [H, columns]
  bool accumulate;

  // dt of a head's query, summed over the batch in order.
  __device__ double OfQuery(int head, int position) const {
    if (position == 0) return 0.0;  // it sees one key
    double sum = 0.0;
    for (int b = 0; b < shape.batch; ++b) {
      sum += rows.Of(b * shape.heads + head, position)[kMoment * RowTerms::kBlock];
    }
    // The one that scaled the moments.
    const double factor = rows.Of(head, position)[kFactor * RowTerms::kBlock];
    return -kLn2 * sum / (temperature.At(head, position) * factor);
  }
  __device__ void Put(float& to, double value) const {
    to = static_cast<float>(accumulate ? to + value : value);
  }
};

__global__ void __launch_bounds__(kThreads) QueryTemperatureKernel(TemperatureOperands operands) {
  const int at = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (at >= operands.shape.heads * operands.columns) return;
  const int position = at % operands.columns;
  const bool used = position < operands.shape.length;
  operands.Put(operands.gradient[at],
               used ? operands.OfQuery(at / operands.columns, position) : 0.0);
}

// A block a head; a thread sums every kThreads-th query.
__global__ void __launch_bounds__(kThreads) HeadTemperatureKernel(TemperatureOperands operands) {
  __shared__ double scratch[kMaxWarps];
  const int head = static_cast<int>(blockIdx.x);
  double sum = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < operands.shape.length; i += kThreads) {
    sum += operands.OfQuery(head, i);
  }
  sum = BlockReduce(sum, scratch, SumOf());
  if (threadIdx.x == 0) operands.Put(operands.gradient[head], sum);
}

}  // namespace

void FillRowTerms(Context& context, const AttentionBackwardArgs& args, bool centred_offsets,
                  const RowTerms& rows) {
  const Shape shape(args.qkv);
  DispatchFloat(args.qkv.dtype(), [&](auto element) {
    using T = decltype(element);
    const RowOperands<T> operands(args, rows, centred_offsets);
    const auto blocks = static_cast<unsigned>(shape.pairs()) *
                        static_cast<unsigned>(rows.padded_length / kBlockRows);
    Launch(RowTermsKernel<T>, blocks, kThreads, 0, context.cuda().stream, operands);
  });
}

void ReduceTemperatureGradient(Context& context, const AttentionBackwardArgs& args,
                               const RowTerms& rows) {
  const TensorView& gradient = args.dtemperature;
  const Shape shape(args.qkv);
  const bool per_query = gradient.num_dims() == 2;
  const TemperatureOperands operands = {
      .shape = shape,
      .temperature = Temperature(args.temperature, shape.width),
      .rows = rows,
      .gradient = gradient.data<float>(),
      .columns = per_query ? static_cast<int>(gradient.dim(1)) : 1,
      .accumulate = args.accumulate};
  if (per_query) {
    const auto threads = static_cast<unsigned>(shape.heads * operands.columns);
    Launch(QueryTemperatureKernel, (threads + kThreads - 1) / kThreads, kThreads, 0,
           context.cuda().stream, operands);
  } else {
    Launch(HeadTemperatureKernel, static_cast<unsigned>(shape.heads), kThreads, 0,
           context.cuda().stream, operands);
  }
}

}  // namespace entrain::cuda::attention
