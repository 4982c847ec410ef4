// Attention's backward on tensor cores: a kernel whose blocks own keys, for dK and dV, and one whose blocks own queries,
// for dQ. Each recomputes the scores it needs, so that no sum is shared by two blocks and every sum has one order.
#include "runtime/kernels/attention_gradient_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

struct BackwardOperands {
  Shape shape;
  TileOrder order;
  RowTerms rows;
  const Bf16* qkv;
  const Bf16* dout;
  Bf16* dqkv;
};

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
// ---- dK and dV ----

template <int kWidth>
struct KeyTiling {
  static constexpr int kRowTiles = kWidth <= 64 ? 2 : 1;
  static constexpr int kWarpKeys = 16 * kRowTiles;
  static constexpr int kKeys = kWarps * kWarpKeys;
  static constexpr int kQueries = kWidth <= 64 ? 64 : 32;
  static constexpr int kKeyElements = kKeys * kTileStride<kWidth>;
  static constexpr int kQueryElements = kQueries * kTileStride<kWidth>;
  static constexpr int kTermFloats = kRowTerms * kQueries;
  static constexpr int kSharedBytes = 2 * TileBytes<kWidth>(kKeys) +
                                      4 * TileBytes<kWidth>(kQueries) +
                                      2 * kTermFloats * static_cast<int>(sizeof(float));
};

// Begins to copy a tile of queries with their dO and terms.
template <int kWidth>
__device__ __forceinline__ void BeginQueryTile(const BackwardOperands& operands, int pair,
                                               int query,
                                               const TileCopier<kWidth, kThreads>& copier,
                                               const TileCopier<kWidth, kThreads>& dout_copier,
                                               Bf16* queries, Bf16* douts, float* terms) {
  using Tiling = KeyTiling<kWidth>;
  constexpr int kChunks = Tiling::kTermFloats / 4;  // of 16 bytes
  static_assert(kChunks <= kThreads);
  const Shape& shape = operands.shape;
  const int valid = shape.length - query;
  copier.template Begin<Tiling::kQueries>(queries, query * shape.qkv_stride(), valid);
  dout_copier.template Begin<Tiling::kQueries>(douts, query * shape.out_stride(), valid);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kChunks) {
    CopyAsync16(terms + thread * 4, operands.rows.Of(pair, query) + thread * 4);
  }
  CommitCopies();
}

template <int kWidth, bool kWithEntropy>
__global__ void __launch_bounds__(kThreads, 2) KeyGradientKernel(BackwardOperands operands) {
  using Tiling = KeyTiling<kWidth>;
  constexpr int kRowTiles = Tiling::kRowTiles;
  const Shape& shape = operands.shape;
  const auto [pair, block_key] = operands.order.FindKeys(blockIdx.x, Tiling::kKeys);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int key = block_key + warp * Tiling::kWarpKeys;

  auto* keys = reinterpret_cast<Bf16*>(DynamicShared());
  Bf16* values = keys + Tiling::kKeyElements;
  Bf16* queries = values + Tiling::kKeyElements;
  Bf16* douts = queries + 2 * Tiling::kQueryElements;
  auto* terms = reinterpret_cast<float*>(douts + 2 * Tiling::kQueryElements);

  const TileCopier<kWidth, kThreads> copier(operands.qkv + shape.QueryOffset(pair),
                                            static_cast<int>(shape.qkv_stride()));
  const TileCopier<kWidth, kThreads> dout_copier(operands.dout + shape.OutOffset(pair),
                                                 static_cast<int>(shape.out_stride()));
  auto begin_copy = [&](int query) {
    const int buffer = query / Tiling::kQueries % 2;
    BeginQueryTile<kWidth>(
        operands, pair, query, copier, dout_copier, queries + buffer * Tiling::kQueryElements,
        douts + buffer * Tiling::kQueryElements, terms + buffer * Tiling::kTermFloats);
  };
  // For the end; registers are scarce.
  __shared__ int64_t destination;
  if (threadIdx.x == 0) {
    destination = shape.QueryOffset(pair) + shape.out_stride() + block_key * shape.qkv_stride();
  }
  BeginKeys<Tiling::kKeys>(copier, shape, block_key, keys, values);
  begin_copy(block_key);

  float dkeys[kRowTiles][kWidth / 8][4];
  float dvalues[kRowTiles][kWidth / 8][4];
  SetZero<kWidth>(dkeys);
  SetZero<kWidth>(dvalues);
  const int warp_elements = warp * Tiling::kWarpKeys * kTileStride<kWidth>;
  const SharedRows<kWidth, kRowTiles> key_fragments(keys + warp_elements);
  const SharedRows<kWidth, kRowTiles> value_fragments(values + warp_elements);
  for (int tile = block_key; tile < shape.length; tile += Tiling::kQueries) {
    WaitForCopies<0>();
    __syncthreads();  // the tile is there, and nobody reads the one before any more
    if (tile + Tiling::kQueries < shape.length) begin_copy(tile + Tiling::kQueries);
    const int buffer = tile / Tiling::kQueries % 2;
#pragma unroll 1
    for (int part = 0; part < Tiling::kQueries; part += kPart) {
      const int behind = tile + part - key;
      if (behind + kPart <= 0) continue;
      const int at = buffer * Tiling::kQueryElements + part * kTileStride<kWidth>;
      AddKeyGradients<kWidth, kRowTiles, kWithEntropy>(
          key_fragments, value_fragments, queries + at, douts + at,
          terms + buffer * Tiling::kTermFloats + part * kRowTerms, behind, dkeys, dvalues);
    }
  }
  Bf16* to = operands.dqkv + destination + (key - block_key) * shape.qkv_stride();
  StoreRows<kWidth>(dkeys, to, shape.qkv_stride(), shape.length - key);
  StoreRows<kWidth>(dvalues, to + shape.out_stride(), shape.qkv_stride(), shape.length - key);
}

// ---- dQ and the temperature's moments ----

template <int kWidth>
struct QueryTiling {
  static constexpr int kRowTiles = kWidth <= 96 ? 2 : 1;
  static constexpr int kWarpQueries = 16 * kRowTiles;
  static constexpr int kQueries = kWarps * kWarpQueries;
  static constexpr int kKeys = kWidth <= 64 ? 64 : 32;
  // In between, sums leave no registers for it.
  static constexpr bool kKeepQueries = kWidth <= 64 || kRowTiles == 1;
  using Rows =
      std::conditional_t<kKeepQueries, KeptRows<kWidth, kRowTiles>, SharedRows<kWidth, kRowTiles>>;
  static constexpr int kQueryElements = kQueries * kTileStride<kWidth>;
  static constexpr int kKeyElements = kKeys * kTileStride<kWidth>;
  static constexpr int kSharedBytes =
      2 * TileBytes<kWidth>(kQueries) + 4 * TileBytes<kWidth>(kKeys);
};

template <int kWidth, bool kWithEntropy, bool kWithMoment>
__global__ void __launch_bounds__(kThreads, 2) QueryGradientKernel(BackwardOperands operands) {
  using Tiling = QueryTiling<kWidth>;
  constexpr int kRowTiles = Tiling::kRowTiles;
  const Shape& shape = operands.shape;
  const auto [pair, block_query] = operands.order.FindQueries(blockIdx.x, Tiling::kQueries);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int query = block_query + warp * Tiling::kWarpQueries;

  auto* queries = reinterpret_cast<Bf16*>(DynamicShared());
  Bf16* douts = queries + Tiling::kQueryElements;
  Bf16* keys = douts + Tiling::kQueryElements;
  Bf16* values = keys + 2 * Tiling::kKeyElements;
  Bf16* warp_queries = queries + warp * Tiling::kWarpQueries * kTileStride<kWidth>;

  const TileCopier<kWidth, kThreads> copier(operands.qkv + shape.QueryOffset(pair),
                                            static_cast<int>(shape.qkv_stride()));
  auto begin_copy = [&](int key) {
    const int buffer = key / Tiling::kKeys % 2 * Tiling::kKeyElements;
    BeginKeys<Tiling::kKeys>(copier, shape, key, keys + buffer, values + buffer);
    CommitCopies();
  };
  copier.template Begin<Tiling::kQueries>(queries, block_query * shape.qkv_stride(),
                                          shape.length - block_query);
  TileCopier<kWidth, kThreads>(operands.dout + shape.OutOffset(pair),
                               static_cast<int>(shape.out_stride()))
      .template Begin<Tiling::kQueries>(douts, block_query * shape.out_stride(),
                                        shape.length - block_query);
  begin_copy(0);

  LaneTerms<kRowTiles> terms(operands.rows.Of(pair, query));
  float dqueries[kRowTiles][kWidth / 8][4];
  SetZero<kWidth>(dqueries);
  WaitForCopies<0>();
  __syncthreads();
  const typename Tiling::Rows query_fragments(warp_queries);
  const SharedRows<kWidth, kRowTiles> dout_fragments(warp_queries + Tiling::kQueryElements);
  const int end = min(block_query + Tiling::kQueries, shape.length);
  for (int tile = 0; tile < end; tile += Tiling::kKeys) {
    if (tile > 0) {
      WaitForCopies<0>();
      __syncthreads();  // the tile is there, and nobody reads the one before any more
    }
    if (tile + Tiling::kKeys < end) begin_copy(tile + Tiling::kKeys);
#pragma unroll 1
    for (int part = 0; part < Tiling::kKeys; part += kPart) {
      const int ahead = query - tile - part;
      if (ahead + Tiling::kWarpQueries <= 0 || query >= shape.length) break;
      const int at = tile / Tiling::kKeys % 2 * Tiling::kKeyElements + part * kTileStride<kWidth>;
      AddQueryGradients<kWidth, kRowTiles, kWithEntropy, kWithMoment>(
          query_fragments, dout_fragments, keys + at, values + at, ahead, terms, dqueries);
    }
  }
  if constexpr (kWithMoment) StoreMoments(terms, operands.rows.Of(pair, query));
  StoreRows<kWidth>(dqueries, operands.dqkv + shape.QueryOffset(pair) + query * shape.qkv_stride(),
                    shape.qkv_stride(), shape.length - query);
}

// ---- launches ----

template <int kWidth, bool kWithEntropy>
void LaunchKeyGradients(Context& context, BackwardOperands operands) {
  using Tiling = KeyTiling<kWidth>;
  operands.order = TileOrder(operands.shape, Tiling::kKeys);
  auto* kernel = KeyGradientKernel<kWidth, kWithEntropy>;
  AllowSharedBytes(kernel, Tiling::kSharedBytes);
  Launch(kernel, operands.order.blocks(), kThreads, Tiling::kSharedBytes, context.cuda().stream,
         operands);
}

template <int kWidth, bool kWithEntropy, bool kWithMoment>
void LaunchQueryGradients(Context& context, BackwardOperands operands) {
  using Tiling = QueryTiling<kWidth>;
  operands.order = TileOrder(operands.shape, Tiling::kQueries);
  auto* kernel = QueryGradientKernel<kWidth, kWithEntropy, kWithMoment>;
  AllowSharedBytes(kernel, Tiling::kSharedBytes);
  Launch(kernel, operands.order.blocks(), kThreads, Tiling::kSharedBytes, context.cuda().stream,
         operands);
}

template <int kWidth, bool kWithEntropy>
void LaunchGradients(Context& context, const BackwardOperands& operands, bool moment) {
  LaunchKeyGradients<kWidth, kWithEntropy>(context, operands);
  if (moment) {
    LaunchQueryGradients<kWidth, kWithEntropy, true>(context, operands);
  } else {
    LaunchQueryGradients<kWidth, kWithEntropy, false>(context, operands);
  }
}

}  // namespace

void TensorBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows) {
  const Shape shape(args.qkv);
  const BackwardOperands operands = {.shape = shape,
                                     .order = TileOrder(shape, 1),
                                     .rows = rows,
                                     .qkv = args.qkv.data<Bf16>(),
                                     .dout = args.dout.data<Bf16>(),
                                     .dqkv = args.dqkv.data<Bf16>()};
  const auto moment = static_cast<bool>(args.dtemperature);
  DispatchWidth(shape.width, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    if (args.entropy_gradient) {
      LaunchGradients<kWidth, true>(context, operands, moment);
    } else {
      LaunchGradients<kWidth, false>(context, operands, moment);
    }
  });
}

}  // namespace entrain::cuda::attention
