// Attention's backward on tensor cores for sequences of up to 128 positions: a block owns a whole (sequence, head) pair.
//
// Such a backward waits for memory, not for products. q, k, v, dO and O are read once, all of the pair lies in shared
// memory, row terms are made on the way, and after one barrier every warp works alone: first dQ of its 32 queries, then dK
// and dV of its 32 keys. A warp with few keys before its queries has many queries after its keys, so all have about the
// same to do.
#include "runtime/kernels/attention_gradient_cuda.cuh"
#include "runtime/kernels/attention_rows_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

constexpr int kMaxLength = 128;
constexpr int kWarps = kMaxLength / kPart;
constexpr int kThreads = kWarps * kWarp;
constexpr int kRowTiles = kPart / 16;
constexpr int kTermFloats = kRowTerms * kPart;  // of a warp's rows

struct ShortOperands {
  RowOperands<Bf16> rows;
  const Bf16* qkv;
  Bf16* dqkv;
};

// What the ends of loops need, in shared memory: registers are scarce.
struct Kept {
  int64_t offset;  // of the pair's first query in qkv
  int pair;
};

template <int kWidth>
constexpr int kTileElements = kMaxLength* kTileStride<kWidth>;
template <int kWidth>
constexpr int kSharedBytes =
    4 * TileBytes<kWidth>(kMaxLength) + kWarps* kTermFloats* static_cast<int>(sizeof(float));

// Row terms of all positions, to shared memory. Sums pass through the moments' places, which are free yet.
template <int kWidth>
__device__ __forceinline__ void MakeTerms(const RowOperands<Bf16>& operands, int pair,
                                          float* terms) {
  const int thread = static_cast<int>(threadIdx.x);
  auto of_row = [&](int row) { return terms + row / kPart * kTermFloats + row % kPart; };
  constexpr int kPassRows = kThreads / kRowLanes;
#pragma unroll 4
  for (int first = 0; first < kMaxLength; first += kPassRows) {
    const int row = first + thread / kRowLanes;
    const float dot = RowDot(operands, pair, row, kWidth, /*fours=*/true);
    if (thread % kRowLanes == 0) of_row(row)[kMoment * kPart] = dot;
  }
  __syncthreads();
  static_assert(kThreads == kMaxLength);
  float* mine = of_row(thread);
  WriteTerms(operands, pair, thread, mine[kMoment * kPart], mine);
}

// dQ of the warp's queries, and their moments, which the temperature's gradient is made of together with the factors.
template <int kWidth, bool kWithEntropy, bool kWithMoment>
__device__ __forceinline__ void QueryGradients(const ShortOperands& operands, const Kept& kept,
                                               const Bf16* tiles, const float* terms) {
  const Shape& shape = operands.rows.shape;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int query = warp * kPart;
  const Bf16* queries = tiles + query * kTileStride<kWidth>;
  const Bf16* keys = tiles + kTileElements<kWidth>;
  const KeptRows<kWidth, kRowTiles> query_rows(queries);
  const SharedRows<kWidth, kRowTiles> dout_rows(queries + 3 * kTileElements<kWidth>);
  LaneTerms<kRowTiles> lane_terms(terms + warp * kTermFloats);
  float dqueries[kRowTiles][kWidth / 8][4];
  SetZero<kWidth>(dqueries);
#pragma unroll 1
  for (int key = 0; key <= query; key += kPart) {
    const Bf16* key_rows = keys + key * kTileStride<kWidth>;
    AddQueryGradients<kWidth, kRowTiles, kWithEntropy, kWithMoment>(
        query_rows, dout_rows, key_rows, key_rows + kTileElements<kWidth>, query - key, lane_terms,
        dqueries);
  }
  StoreRows<kWidth>(dqueries, operands.dqkv + kept.offset + query * shape.qkv_stride(),
                    shape.qkv_stride(), shape.length - query);
  if constexpr (kWithMoment) {
    float* rows = operands.rows.rows.Of(kept.pair, query);
    StoreMoments(lane_terms, rows);
    const int factor = kFactor * kPart + static_cast<int>(threadIdx.x) % kWarp;
    rows[factor] = terms[warp * kTermFloats + factor];
  }
}

// dK and dV of the warp's keys.
template <int kWidth, bool kWithEntropy>
__device__ __forceinline__ void KeyGradients(const ShortOperands& operands, const Kept& kept,
                                             const Bf16* tiles, const float* terms) {
  const Shape& shape = operands.rows.shape;
  const int key = static_cast<int>(threadIdx.x) / kWarp * kPart;
  const Bf16* keys = tiles + kTileElements<kWidth> + key * kTileStride<kWidth>;
  const SharedRows<kWidth, kRowTiles> key_rows(keys);
  const SharedRows<kWidth, kRowTiles> value_rows(keys + kTileElements<kWidth>);
  float dkeys[kRowTiles][kWidth / 8][4];
  float dvalues[kRowTiles][kWidth / 8][4];
  SetZero<kWidth>(dkeys);
  SetZero<kWidth>(dvalues);
#pragma unroll 1
  for (int query = key; query < shape.length; query += kPart) {
    const Bf16* queries = tiles + query * kTileStride<kWidth>;
    AddKeyGradients<kWidth, kRowTiles, kWithEntropy>(
        key_rows, value_rows, queries, queries + 3 * kTileElements<kWidth>,
        terms + query / kPart * kTermFloats, query - key, dkeys, dvalues);
  }
  Bf16* to = operands.dqkv + kept.offset + shape.out_stride() + key * shape.qkv_stride();
  StoreRows<kWidth>(dkeys, to, shape.qkv_stride(), shape.length - key);
  StoreRows<kWidth>(dvalues, to + shape.out_stride(), shape.qkv_stride(), shape.length - key);
}

template <int kWidth, bool kWithEntropy, bool kWithMoment>
__global__ void __launch_bounds__(kThreads, 2) ShortGradientKernel(ShortOperands operands) {
  const Shape& shape = operands.rows.shape;
  const int pair = static_cast<int>(blockIdx.x);
  __shared__ Kept kept;
  if (threadIdx.x == 0) kept = {shape.QueryOffset(pair), pair};
  auto* tiles = reinterpret_cast<Bf16*>(DynamicShared());  // q, k, v, dO
  auto* terms = reinterpret_cast<float*>(tiles + 4 * kTileElements<kWidth>);
  const TileCopier<kWidth, kThreads> copier(operands.qkv + shape.QueryOffset(pair),
                                            static_cast<int>(shape.qkv_stride()));
  for (int i = 0; i < 3; ++i) {
    copier.template Begin<kMaxLength>(tiles + i * kTileElements<kWidth>, i * shape.out_stride(),
                                      shape.length);
  }
  TileCopier<kWidth, kThreads>(operands.rows.dout + shape.OutOffset(pair),
                               static_cast<int>(shape.out_stride()))
      .template Begin<kMaxLength>(tiles + 3 * kTileElements<kWidth>, 0, shape.length);
  CommitCopies();
  MakeTerms<kWidth>(operands.rows, pair, terms);
  WaitForCopies<0>();
  __syncthreads();
  if (static_cast<int>(threadIdx.x) / kWarp * kPart >= shape.length) return;
  QueryGradients<kWidth, kWithEntropy, kWithMoment>(operands, kept, tiles, terms);
  KeyGradients<kWidth, kWithEntropy>(operands, kept, tiles, terms);
}

template <int kWidth, bool kWithEntropy, bool kWithMoment>
void LaunchShort(Context& context, const ShortOperands& operands) {
  auto* kernel = ShortGradientKernel<kWidth, kWithEntropy, kWithMoment>;
  AllowSharedBytes(kernel, kSharedBytes<kWidth>);
  Launch(kernel, static_cast<unsigned>(operands.rows.shape.pairs()), kThreads, kSharedBytes<kWidth>,
         context.cuda().stream, operands);
}

template <int kWidth>
void DispatchShort(Context& context, const ShortOperands& operands, bool moment) {
  if (operands.rows.gradient != nullptr) {
    moment ? LaunchShort<kWidth, true, true>(context, operands)
           : LaunchShort<kWidth, true, false>(context, operands);
  } else {
    moment ? LaunchShort<kWidth, false, true>(context, operands)
           : LaunchShort<kWidth, false, false>(context, operands);
  }
}

}  // namespace

bool FitsShortBackward(const AttentionBackwardArgs& args) {
  const Shape shape(args.qkv);
  return shape.length <= kMaxLength && shape.width <= 64 &&
         FitsTensorCores(shape.width, {args.qkv, args.out, args.dout, args.dqkv});
}

void ShortBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows) {
  const ShortOperands operands = {.rows = {args, rows, /*centred=*/true},
                                  .qkv = args.qkv.data<Bf16>(),
                                  .dqkv = args.dqkv.data<Bf16>()};
  const auto moment = static_cast<bool>(args.dtemperature);
  if (operands.rows.shape.width == 64) {
    DispatchShort<64>(context, operands, moment);
  } else {
    DispatchShort<32>(context, operands, moment);
  }
}

}  // namespace entrain::cuda::attention
