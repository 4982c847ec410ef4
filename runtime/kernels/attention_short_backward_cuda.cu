// Attention's backward on tensor cores for sequences of up to 256 positions: a block owns a whole (sequence, head) pair.
//
// q, k, v, dO and O are read once, all of the pair lies in shared memory, and row terms are made on the way. Then every warp
// works alone on dK and dV of 16 keys, and of 16 more, as far from the end as the first are from the start: all warps meet
// equally many queries. The gradients of their scores go to shared memory as bf16, as they enter products anyway, and after
// one more barrier every warp makes dQ of 16 queries, and of 16 more, out of them. So there are five products, not seven, each
// score is made once, and every sum has one owner and one order.
#include <algorithm>

#include "runtime/kernels/attention_gradient_cuda.cuh"
#include "runtime/kernels/attention_rows_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

constexpr int kRows = Units::kKeys;  // keys or queries of a warp at a time
constexpr int kTermFloats = kRowTerms * kPart;

struct ShortOperands {
  RowOperands<Bf16> rows;
  const Bf16* qkv;
  Bf16* dqkv;
};

template <int kWidth, int kLength>
struct ShortTiling {
  static constexpr int kWarps = kLength / (2 * kRows);
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocks = kLength == 128 ? 2 : 1;  // on a multiprocessor
  static constexpr int kElements = kLength * kTileStride<kWidth>;
  static constexpr int kTermsBytes = kRowTerms * kLength * static_cast<int>(sizeof(float));
  static constexpr int kMomentsBytes = kWarps * kLength * static_cast<int>(sizeof(float));
  static constexpr int kSharedBytes = 3 * TileBytes<kWidth>(kLength) + kTermsBytes + kMomentsBytes +
                                      std::max(TileBytes<kWidth>(kLength), Units::Bytes(kLength));
  // Wider heads have no registers left for it.
  using Keys = std::conditional_t<kWidth <= 64, KeptRows<kWidth, 1>, SharedRows<kWidth, 1>>;
};

// The block's shared memory.
template <int kWidth, int kLength>
struct Shared {
  using Tiling = ShortTiling<kWidth, kLength>;
  Bf16* queries;
  Bf16* keys;
  Bf16* douts;
  float* terms;
  float* moments;  // [warps][kLength]
  Bf16* values;    // until gradients of scores take the place

  __device__ __forceinline__ Shared()
      : queries(reinterpret_cast<Bf16*>(DynamicShared())),
        keys(queries + Tiling::kElements),
        douts(keys + Tiling::kElements),
        terms(reinterpret_cast<float*>(douts + Tiling::kElements)),
        moments(terms + kRowTerms * kLength),
        values(reinterpret_cast<Bf16*>(moments + Tiling::kWarps * kLength)) {}
};

// Row terms of all positions, to shared memory. Sums pass through the moments' places, which are free yet.
template <int kWidth, int kLength>
__device__ __forceinline__ void MakeTerms(const RowOperands<Bf16>& operands, int pair,
                                          float* terms) {
  constexpr int kThreads = ShortTiling<kWidth, kLength>::kThreads;
  const int thread = static_cast<int>(threadIdx.x);
  auto of_row = [&](int row) { return terms + row / kPart * kTermFloats + row % kPart; };
  constexpr int kPassRows = kThreads / kRowLanes;
#pragma unroll 4
  for (int first = 0; first < kLength; first += kPassRows) {
    const int row = first + thread / kRowLanes;
    float dot = PartialRowDot(operands, pair, row, kWidth, /*vectors=*/true);
#pragma unroll
    for (int mask = kRowLanes / 2; mask > 0; mask /= 2) dot += ShuffleXor(dot, mask);
    if (thread % kRowLanes == 0) of_row(row)[kMoment * kPart] = dot;
  }
  __syncthreads();
  static_assert(kThreads == kLength);
  float* mine = of_row(thread);
  WriteTerms(operands, RowInputs(operands, pair, thread), thread, mine[kMoment * kPart], mine);
}

// The lanes' moments of 32 queries, summed over the warp's keys: lane l's result is that of query MomentColumn().
__device__ __forceinline__ float SumOfMoments(float (&moments)[kPart / 4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int half = 4; half >= 1; half /= 2) {
    const bool upper = (lane & 4 * half) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float other = ShuffleXor(upper ? moments[i] : moments[i + half], 4 * half);
      moments[i] = (upper ? moments[i + half] : moments[i]) + other;
    }
  }
  return moments[0];
}
__device__ __forceinline__ int MomentColumn() {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  return lane / 8 * 8 + lane % 4 * 2 + lane / 4 % 2;
}

// dK and dV of the warp's 16 keys from `key` on. first: no keys before these have left moments.
template <int kWidth, int kLength, bool kWithEntropy, bool kWithMoment>
__device__ __forceinline__ void KeyGradients(const ShortOperands& operands,
                                             const Shared<kWidth, kLength>& shared,
                                             const KeptRows<kWidth, 1>& values, int key,
                                             bool first) {
  const Shape& shape = operands.rows.shape;
  const typename ShortTiling<kWidth, kLength>::Keys keys(shared.keys + key * kTileStride<kWidth>);
  const Units units(shared.values);
  float* moments = shared.moments + static_cast<int>(threadIdx.x) / kWarp * kLength;
  float dkeys[1][kWidth / 8][4];
  float dvalues[1][kWidth / 8][4];
  SetZero<kWidth>(dkeys);
  SetZero<kWidth>(dvalues);
#pragma unroll 1
  for (int query = key / kPart * kPart; query < shape.length; query += kPart) {
    const Bf16* queries = shared.queries + query * kTileStride<kWidth>;
    const Bf16* douts = shared.douts + query * kTileStride<kWidth>;
    float scores[1][kPart / 8][4];
    float dprobs[1][kPart / 8][4];
    Scores<kWidth, 1, kPart>(scores, keys, queries);
    if (query - key < kRows - 1) MaskScores<true>(scores, query - key);
    Scores<kWidth, 1, kPart>(dprobs, values, douts);
    float of_columns[kPart / 4] = {};
    TransposedGradients<kWithEntropy, kWithMoment, 1>(
        scores, dprobs, shared.terms + query / kPart * kTermFloats, of_columns);
    if constexpr (kWithMoment) {
      float& moment = moments[query + MomentColumn()];
      const float sum = SumOfMoments(of_columns);
      moment = first ? sum : moment + sum;
    }
    AddWeighted<kWidth, 1, kPart>(dvalues, scores, douts);
    uint32_t gradients[kPart / 16][1][4];
#pragma unroll
    for (int k = 0; k < kPart / 16; ++k) {
      PackRows(gradients[k][0], dprobs[0][2 * k], dprobs[0][2 * k + 1]);
      AddFragments<kWidth, 1>(dkeys, gradients[k], queries + k * 16 * kTileStride<kWidth>);
    }
    units.Put(key, query, gradients);
  }
  Bf16* to = operands.dqkv + shape.QueryOffset(static_cast<int>(blockIdx.x)) + shape.out_stride() +
             key * shape.qkv_stride();
  StoreRows<kWidth>(dkeys, to, shape.qkv_stride(), shape.length - key);
  StoreRows<kWidth>(dvalues, to + shape.out_stride(), shape.qkv_stride(), shape.length - key);
}

// dQ of the warp's 16 queries from `query` on.
template <int kWidth, int kLength>
__device__ __forceinline__ void QueryGradients(const ShortOperands& operands,
                                               const Shared<kWidth, kLength>& shared, int query) {
  const Shape& shape = operands.rows.shape;
  const Units units(shared.values);
  float dqueries[1][kWidth / 8][4];
  SetZero<kWidth>(dqueries);
#pragma unroll 2
  for (int key = 0; key <= query; key += kRows) {
    uint32_t gradients[1][4];
    units.GetTransposed(key, query, gradients[0]);
    AddFragments<kWidth, 1>(dqueries, gradients, shared.keys + key * kTileStride<kWidth>);
  }
  StoreRows<kWidth>(
      dqueries,
      operands.dqkv + shape.QueryOffset(static_cast<int>(blockIdx.x)) + query * shape.qkv_stride(),
      shape.qkv_stride(), shape.length - query);
}

// Moments of whole rows: those that the warps have left, in order.
template <int kWidth, int kLength>
__device__ __forceinline__ void StoreMoments(const RowOperands<Bf16>& operands,
                                             const Shared<kWidth, kLength>& shared) {
  const int query = static_cast<int>(threadIdx.x);
  if (query >= operands.shape.length) return;
  // A warp's first keys are its number times kRows.
  const int end = min(query / kPart * kPart + kPart, operands.shape.length);
  float sum = 0.0F;
  for (int warp = 0; warp < ShortTiling<kWidth, kLength>::kWarps && warp * kRows < end; ++warp) {
    sum += shared.moments[warp * kLength + query];
  }
  float* terms = operands.rows.Of(static_cast<int>(blockIdx.x), query);
  terms[kMoment * kPart] = sum;
  terms[kFactor * kPart] =
      shared.terms[query / kPart * kTermFloats + kFactor * kPart + query % kPart];
}

template <int kWidth, int kLength>
__device__ __forceinline__ void BeginCopies(const ShortOperands& operands,
                                            const Shared<kWidth, kLength>& shared, int pair) {
  constexpr int kThreads = ShortTiling<kWidth, kLength>::kThreads;
  const Shape& shape = operands.rows.shape;
  const TileCopier<kWidth, kThreads> copier(operands.qkv + shape.QueryOffset(pair),
                                            static_cast<int>(shape.qkv_stride()));
  copier.template Begin<kLength>(shared.queries, 0, shape.length);
  copier.template Begin<kLength>(shared.keys, shape.out_stride(), shape.length);
  copier.template Begin<kLength>(shared.values, 2 * shape.out_stride(), shape.length);
  TileCopier<kWidth, kThreads>(operands.rows.dout + shape.OutOffset(pair),
                               static_cast<int>(shape.out_stride()))
      .template Begin<kLength>(shared.douts, 0, shape.length);
  CommitCopies();
}

template <int kWidth, int kLength, bool kWithEntropy, bool kWithMoment>
__global__ void __launch_bounds__((ShortTiling<kWidth, kLength>::kThreads),
                                  (ShortTiling<kWidth, kLength>::kBlocks))
    ShortGradientKernel(ShortOperands operands) {
  const int pair = static_cast<int>(blockIdx.x);
  const Shared<kWidth, kLength> shared;
  BeginCopies(operands, shared, pair);
  MakeTerms<kWidth, kLength>(operands.rows, pair, shared.terms);
  WaitForCopies<0>();
  __syncthreads();
  const int first = static_cast<int>(threadIdx.x) / kWarp * kRows;
  const int second = kLength - kRows - first;
  KeptRows<kWidth, 1> values(shared.values + first * kTileStride<kWidth>);
  const KeptRows<kWidth, 1> next_values(shared.values + second * kTileStride<kWidth>);
  __syncthreads();
  const int length = operands.rows.shape.length;
#pragma unroll 1
  for (int key = first;; key = second, values = next_values) {
    if (key < length) {
      KeyGradients<kWidth, kLength, kWithEntropy, kWithMoment>(operands, shared, values, key,
                                                               key == first);
    }
    if (key == second) break;
  }
  __syncthreads();
#pragma unroll 1
  for (int query = first;; query = second) {
    if (query < length) QueryGradients<kWidth, kLength>(operands, shared, query);
    if (query == second) break;
  }
  if constexpr (kWithMoment) StoreMoments<kWidth, kLength>(operands.rows, shared);
}

template <int kWidth, int kLength>
void LaunchShort(Context& context, const ShortOperands& operands, bool moment) {
  using Tiling = ShortTiling<kWidth, kLength>;
  const auto launch = [&](auto* kernel) {
    AllowSharedBytes(kernel, Tiling::kSharedBytes);
    Launch(kernel, static_cast<unsigned>(operands.rows.shape.pairs()), Tiling::kThreads,
           Tiling::kSharedBytes, context.cuda().stream, operands);
  };
  if (operands.rows.gradient != nullptr) {
    moment ? launch(ShortGradientKernel<kWidth, kLength, true, true>)
           : launch(ShortGradientKernel<kWidth, kLength, true, false>);
  } else {
    moment ? launch(ShortGradientKernel<kWidth, kLength, false, true>)
           : launch(ShortGradientKernel<kWidth, kLength, false, false>);
  }
}

// Calls function(width, length) with the constants of the kernel for a pair of this shape, if there is one.
template <typename F>
void DispatchShort(const Shape& shape, F&& function) {
  if (shape.length > 256 || shape.width > 96) return;
  DispatchWidth(shape.width, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    if constexpr (kWidth <= 96) {  // or else registers spill
      if (shape.length <= 128) {
        function(width, std::integral_constant<int, 128>{});
      } else if constexpr (kWidth <= 80) {  // or else no device has so much shared memory
        function(width, std::integral_constant<int, 256>{});
      }
    }
  });
}

}  // namespace

bool FitsShortBackward(const CudaDevice& device, const AttentionBackwardArgs& args) {
  const Shape shape(args.qkv);
  if (!FitsTensorCores(shape.width, {args.qkv, args.out, args.dout, args.dqkv})) return false;
  bool fits = false;
  DispatchShort(shape, [&](auto width, auto length) {
    fits = ShortTiling<decltype(width)::value, decltype(length)::value>::kSharedBytes <=
           device.shared_bytes;
  });
  return fits;
}

void ShortBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows) {
  const ShortOperands operands = {.rows = {args, rows, /*centred=*/true},
                                  .qkv = args.qkv.data<Bf16>(),
                                  .dqkv = args.dqkv.data<Bf16>()};
  DispatchShort(operands.rows.shape, [&](auto width, auto length) {
    LaunchShort<decltype(width)::value, decltype(length)::value>(
        context, operands, static_cast<bool>(args.dtemperature));
  });
}

}  // namespace entrain::cuda::attention
