// Attention in plain fp32 arithmetic: fp32 operands, and head widths that the tensor cores' path does not take.
#include "runtime/kernels/attention_plain_cuda.cuh"

namespace entrain::cuda::attention {
namespace plain {
namespace {

template <typename T>
struct PlainOperands {
  Shape shape;
  Temperature temperature;
  TileOrder order;
  RowTerms rows;
  const T* qkv;
  const T* dout;
  T* out;
  float* lse;
  float* lse_low;
  float* entropy;
  T* dqkv;
};

// ---- forward ----

// Running values of one row: see OnlineRows of the tensor cores' path. Sums are of the lane's own columns until the end.
struct OnlineRow {
  float scale;
  float maximum = kMasked;
  float sum = 0.0F;
  float weighted = 0.0F;

  // The score becomes a power. Returns what earlier sums are multiplied by.
  __device__ __forceinline__ float Add(float& score) {
    const float top =
        fmaxf(maximum, WarpReduce(score, [](float a, float b) { return fmaxf(a, b); }));
    const float x = (score - top) * scale;
    const float rise = (top - maximum) * scale;
    const float rescale = Exp2(-rise);
    score = Exp2(x);
    weighted = fmaf(rescale, fmaf(rise, sum, weighted), -score * x);
    sum = fmaf(rescale, sum, score);
    maximum = top;
    return rescale;
  }
};

template <typename T, int kColumns>
__global__ void __launch_bounds__(kThreads, kColumns <= 4 ? 2 : 1)
    PlainForwardKernel(PlainOperands<T> operands) {
  const Shape& shape = operands.shape;
  const int width = shape.width;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const auto [pair, block_query] = operands.order.FindQueries(blockIdx.x, kTile);
  const int query = block_query + warp * kWarpRows;
  auto* weights = reinterpret_cast<float*>(DynamicShared());
  float* queries = weights + kWeightFloats;
  float* keys = queries + kTile * Stride(width);
  float* values = keys + kTile * Stride(width);
  const T* from = operands.qkv + shape.QueryOffset(pair);
  const int64_t stride = shape.qkv_stride();

  OnlineRow rows[kWarpRows];
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
    rows[r].scale =
        operands.temperature.Scale(pair % shape.heads, min(query + r, shape.length - 1));
  }
  float out[kWarpRows][kColumns] = {};
  LoadTile(queries, from + block_query * stride, stride, width, shape.length - block_query);
  for (int key = 0; key <= block_query; key += kTile) {
    __syncthreads();
    const T* key_rows = from + shape.out_stride() + key * stride;
    LoadTile(keys, key_rows, stride, width, shape.length - key);
    LoadTile(values, key_rows + shape.out_stride(), stride, width, shape.length - key);
    __syncthreads();
    float scores[kWarpRows];
    Dots(scores, queries + warp * kWarpRows * Stride(width), keys, width);
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      if (key + lane > query + r) scores[r] = kMasked;
      ScaleRow(out[r], rows[r].Add(scores[r]));
    }
    // No further than the warp's last row sees, so that a NaN beyond does not reach it.
    AddRows(out, scores, weights + warp * kTile * kWarpRows, values, width,
            min(kTile, query + kWarpRows - key));
  }
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
    rows[r].sum = WarpReduce(rows[r].sum, SumOf());
    rows[r].weighted = WarpReduce(rows[r].weighted, SumOf());
    ScaleRow(out[r], 1.0F / rows[r].sum);
    if (lane == r && query + r < shape.length) {
      WriteRow(operands, pair, query + r, rows[r].maximum, rows[r].scale, rows[r].sum,
               rows[r].weighted);
    }
  }
  StoreRows(out, operands.out + shape.OutOffset(pair) + query * shape.out_stride(),
            shape.out_stride(), width, shape.length - query);
}

// ---- backward ----

// What a row of scores' gradients is made of: see RowTerms.
struct Terms {
  float scale, log_sum, log_sum_low, entropy, factor, offset, slope;

  __device__ __forceinline__ explicit Terms(const float* row)
      : scale(row[kScale * RowTerms::kBlock]),
        log_sum(row[kLogSum * RowTerms::kBlock]),
        log_sum_low(row[kLogSumLow * RowTerms::kBlock]),
        entropy(row[kEntropy * RowTerms::kBlock]),
        factor(row[kFactor * RowTerms::kBlock]),
        offset(row[kOffset * RowTerms::kBlock]),
        slope(row[kSlope * RowTerms::kBlock]) {}

  // q·k becomes the probability, dP the score's gradient f·ds, both 0 where masked. Returns f·ds·y.
  __device__ __forceinline__ float Gradient(float& score, float& dprob, bool masked) const {
    const float x = fmaf(score, scale, -log_sum) - log_sum_low;
    const float y = x + entropy;
    const float inner = fmaf(-slope, y, fmaf(dprob, factor, -offset));
    score = masked ? 0.0F : Exp2(x);
    dprob = masked ? 0.0F : score * inner;
    return masked ? 0.0F : dprob * y;
  }
};

template <typename T, int kColumns>
__global__ void __launch_bounds__(kThreads, kColumns <= 4 ? 2 : 1)
    PlainKeyGradientKernel(PlainOperands<T> operands) {
  const Shape& shape = operands.shape;
  const int width = shape.width;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const auto [pair, block_key] = operands.order.FindKeys(blockIdx.x, kTile);
  const int key = block_key + warp * kWarpRows;
  const int tile_floats = kTile * Stride(width);
  auto* weights = reinterpret_cast<float*>(DynamicShared());
  float* keys = weights + kWeightFloats;
  float* values = keys + tile_floats;
  float* queries = values + tile_floats;
  float* douts = queries + tile_floats;
  weights += warp * kTile * kWarpRows;
  const int at = warp * kWarpRows * Stride(width);
  const int64_t stride = shape.qkv_stride();
  const T* from = operands.qkv + shape.QueryOffset(pair);
  const T* dout = operands.dout + shape.OutOffset(pair);
  const T* key_rows = from + shape.out_stride() + block_key * stride;

  LoadTile(keys, key_rows, stride, width, shape.length - block_key);
  LoadTile(values, key_rows + shape.out_stride(), stride, width, shape.length - block_key);
  float dkeys[kWarpRows][kColumns] = {};
  float dvalues[kWarpRows][kColumns] = {};
  for (int query = block_key; query < shape.length; query += kTile) {
    __syncthreads();
    LoadTile(queries, from + query * stride, stride, width, shape.length - query);
    LoadTile(douts, dout + query * shape.out_stride(), shape.out_stride(), width,
             shape.length - query);
    const Terms terms(operands.rows.Of(pair, query + lane));
    __syncthreads();
    float scores[kWarpRows];
    float dprobs[kWarpRows];
    Dots(scores, keys + at, queries, width);
    Dots(dprobs, values + at, douts, width);
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      terms.Gradient(scores[r], dprobs[r], key + r > query + lane);
    }
    AddRows(dvalues, scores, weights, douts, width, kTile);
    AddRows(dkeys, dprobs, weights, queries, width, kTile);
  }
  T* to = operands.dqkv + shape.QueryOffset(pair) + shape.out_stride() + key * stride;
  StoreRows(dkeys, to, stride, width, shape.length - key);
  StoreRows(dvalues, to + shape.out_stride(), stride, width, shape.length - key);
}

template <typename T, int kColumns>
__global__ void __launch_bounds__(kThreads, kColumns <= 4 ? 2 : 1)
    PlainQueryGradientKernel(PlainOperands<T> operands) {
  const Shape& shape = operands.shape;
  const int width = shape.width;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const auto [pair, block_query] = operands.order.FindQueries(blockIdx.x, kTile);
  const int query = block_query + warp * kWarpRows;
  const int tile_floats = kTile * Stride(width);
  auto* weights = reinterpret_cast<float*>(DynamicShared());
  float* queries = weights + kWeightFloats;
  float* douts = queries + tile_floats;
  float* keys = douts + tile_floats;
  float* values = keys + tile_floats;
  weights += warp * kTile * kWarpRows;
  const int at = warp * kWarpRows * Stride(width);
  const int64_t stride = shape.qkv_stride();
  const T* from = operands.qkv + shape.QueryOffset(pair);

  LoadTile(queries, from + block_query * stride, stride, width, shape.length - block_query);
  LoadTile(douts, operands.dout + shape.OutOffset(pair) + block_query * shape.out_stride(),
           shape.out_stride(), width, shape.length - block_query);
  float* row_terms = operands.rows.Of(pair, query);  // the warp's rows lie in one block of them
  const Terms terms[kWarpRows] = {Terms(row_terms), Terms(row_terms + 1), Terms(row_terms + 2),
                                  Terms(row_terms + 3)};
  float dqueries[kWarpRows][kColumns] = {};
  float moments[kWarpRows] = {};
  for (int key = 0; key <= block_query; key += kTile) {
    __syncthreads();
    const T* key_rows = from + shape.out_stride() + key * stride;
    LoadTile(keys, key_rows, stride, width, shape.length - key);
    LoadTile(values, key_rows + shape.out_stride(), stride, width, shape.length - key);
    __syncthreads();
    float scores[kWarpRows];
    float dprobs[kWarpRows];
    Dots(scores, queries + at, keys, width);
    Dots(dprobs, douts + at, values, width);
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) {
      moments[r] += terms[r].Gradient(scores[r], dprobs[r], key + lane > query + r);
    }
    AddRows(dqueries, dprobs, weights, keys, width, min(kTile, query + kWarpRows - key));
  }
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
    const float moment = WarpReduce(moments[r], SumOf());
    if (lane == 0) row_terms[kMoment * RowTerms::kBlock + r] = moment;
  }
  StoreRows(dqueries, operands.dqkv + shape.QueryOffset(pair) + query * stride, stride, width,
            shape.length - query);
}

// ---- launches ----

template <typename T>
void LaunchTiles(Context& context, void (*kernel)(PlainOperands<T>),
                 const PlainOperands<T>& operands, int shared_bytes) {
  AllowSharedBytes(kernel, shared_bytes);
  Launch(kernel, operands.order.blocks(), kThreads, shared_bytes, context.cuda().stream, operands);
}

// Calls function(T{}, std::integral_constant<int, c>) for the elements of qkv and c columns a lane.
template <typename F>
void DispatchPlain(const TensorView& qkv, F&& function) {
  const int64_t width = qkv.dim(4);
  CHECK_LE(width, kMaxWidth) << "width of attention's heads, on CUDA";
  DispatchFloat(qkv.dtype(), [&](auto element) {
    if (width <= 32) return function(element, std::integral_constant<int, 1>{});
    if (width <= 64) return function(element, std::integral_constant<int, 2>{});
    if (width <= 128) return function(element, std::integral_constant<int, 4>{});
    return function(element, std::integral_constant<int, 8>{});
  });
}

}  // namespace
}  // namespace plain

void PlainForward(Context& context, const AttentionForwardArgs& args) {
  const Shape shape(args.qkv);
  plain::DispatchPlain(args.qkv, [&](auto element, auto columns) {
    using T = decltype(element);
    const plain::PlainOperands<T> operands = {
        .shape = shape,
        .temperature = Temperature(args.temperature, shape.width),
        .order = TileOrder(shape, plain::kTile),
        .rows = RowTerms(shape),
        .qkv = args.qkv.data<T>(),
        .dout = nullptr,
        .out = args.out.data<T>(),
        .lse = args.lse.data<float>(),
        .lse_low = args.lse_low ? args.lse_low.data<float>() : nullptr,
        .entropy = args.entropy.data<float>()};
    plain::LaunchTiles<T>(context, plain::PlainForwardKernel<T, decltype(columns)::value>, operands,
                          plain::SharedBytes(shape.width, 3, 1));
  });
}

void PlainBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows) {
  const Shape shape(args.qkv);
  plain::DispatchPlain(args.qkv, [&](auto element, auto columns) {
    using T = decltype(element);
    constexpr int kColumns = decltype(columns)::value;
    const plain::PlainOperands<T> operands = {
        .shape = shape,
        .temperature = Temperature(args.temperature, shape.width),
        .order = TileOrder(shape, plain::kTile),
        .rows = rows,
        .qkv = args.qkv.data<T>(),
        .dout = args.dout.data<T>(),
        .dqkv = args.dqkv.data<T>()};
    const int shared_bytes = plain::SharedBytes(shape.width, 4, 1);
    plain::LaunchTiles<T>(context, plain::PlainKeyGradientKernel<T, kColumns>, operands,
                          shared_bytes);
    plain::LaunchTiles<T>(context, plain::PlainQueryGradientKernel<T, kColumns>, operands,
                          shared_bytes);
  });
}

}  // namespace entrain::cuda::attention
