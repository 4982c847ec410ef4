// What attention's backward needs beyond the scores: a few numbers for each row of them, and the temperature's gradient in
// the end.
#include "runtime/kernels/attention_rows_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

constexpr int kThreads = 256;

// Of a kernel whose warps each make the terms of RowTerms::kBlock rows, a lane a row in the end.
constexpr int kTermWarps = RowTerms::kPadding / RowTerms::kBlock;
static_assert(RowTerms::kBlock == kWarp);

// parts[i]: of kRowLanes neighbouring lanes, a part of sum i. Lane l gets sum l.
__device__ __forceinline__ float SumOfLane(float (&parts)[kRowLanes]) {
  const int lane = static_cast<int>(threadIdx.x) % kRowLanes;
#pragma unroll
  for (int half = kRowLanes / 2; half > 0; half /= 2) {
    const bool upper = (lane & half) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float other = ShuffleXor(upper ? parts[i] : parts[i + half], half);
      parts[i] = (upper ? parts[i + half] : parts[i]) + other;
    }
  }
  return parts[0];
}

// kRowLanes lanes read kRowLanes rows together, all before the first is waited for. kWidth: of a head, whose vectors fit; 0: any.
// Three blocks a multiprocessor have the registers for it.
template <int kWidth, typename T>
__global__ void __launch_bounds__(kTermWarps* kWarp, 3) RowTermsKernel(RowOperands<T> operands) {
  const int width = kWidth > 0 ? kWidth : operands.shape.width;
  const bool vectors = kWidth > 0 || operands.vectors;
  const unsigned pair_blocks =
      static_cast<unsigned>(operands.rows.padded_length) / RowTerms::kPadding;
  const int pair = static_cast<int>(blockIdx.x / pair_blocks);
  const int thread = static_cast<int>(threadIdx.x);
  const int position = static_cast<int>(blockIdx.x % pair_blocks) * RowTerms::kPadding + thread;
  const RowInputs inputs(operands, pair, position);
  float parts[kRowLanes];
#pragma unroll
  for (int i = 0; i < kRowLanes; ++i) {
    const int row = position - thread % kRowLanes + i;
    parts[i] = PartialRowDot(operands, pair, row, width, vectors);
  }
  WriteTerms(operands, inputs, position, SumOfLane(parts), operands.rows.Of(pair, position));
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
#pragma unroll 16
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
                        static_cast<unsigned>(rows.padded_length / RowTerms::kPadding);
    auto kernel = RowTermsKernel<0, T>;
    if (operands.vectors && shape.width == 64) kernel = RowTermsKernel<64, T>;
    if (operands.vectors && shape.width == 128) kernel = RowTermsKernel<128, T>;
    Launch(kernel, blocks, kTermWarps * kWarp, 0, context.cuda().stream, operands);
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
