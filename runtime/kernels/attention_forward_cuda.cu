// Attention's forward on tensor cores.
//
// A block owns 128 queries of a pair, a warp 32 of them, and goes over tiles of 64 keys up to the diagonal, the next tile
// on its way while one is worked on.
#include "runtime/kernels/attention_online_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

template <int kWidth>
struct ForwardTiling {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kRowTiles = 2;  // 16 queries each, of a warp
  static constexpr int kWarpQueries = 16 * kRowTiles;
  static constexpr int kQueries = kWarps * kWarpQueries;
  static constexpr int kKeys = kWidth <= 64 ? 64 : 32;
  // Wider heads have no registers left for it.
  static constexpr bool kKeepQueries = kWidth <= 32;
  using Rows =
      std::conditional_t<kKeepQueries, KeptRows<kWidth, kRowTiles>, SharedRows<kWidth, kRowTiles>>;

  static constexpr int kQueryElements = kQueries * kTileStride<kWidth>;
  static constexpr int kKeyElements = kKeys * kTileStride<kWidth>;
  static constexpr int kSharedBytes = TileBytes<kWidth>(kQueries) + 4 * TileBytes<kWidth>(kKeys);
};

// One of the lane's rows: scores become powers 2^x, which join the running values. Returns what earlier sums are multiplied
// by.
template <int kColumns, int kRowTiles>
__device__ __forceinline__ float SoftmaxRow(float (&scores)[kColumns][4],
                                            OnlineRows<kRowTiles>& rows, int m, int half) {
  float top = rows.maximum[m][half];
  RaiseTop(scores, half, top);
  top = MaxOfFour(top);
  float sum = 0.0F;
  float weighted = 0.0F;
  ToPowers(scores, half, top, rows.scale[m][half], sum, weighted);
  return rows.Join(m, half, top, sum, weighted);
}

// One tile of keys for the warp's rows.
template <typename Tiling, int kWidth>
__device__ __forceinline__ void ForwardTile(const typename Tiling::Rows& queries, const Bf16* keys,
                                            const Bf16* values, int ahead,
                                            OnlineRows<Tiling::kRowTiles>& rows,
                                            float (&out)[Tiling::kRowTiles][kWidth / 8][4]) {
  constexpr int kKeys = Tiling::kKeys;
  float scores[Tiling::kRowTiles][kKeys / 8][4];
  Scores<kWidth, Tiling::kRowTiles, kKeys>(scores, queries, keys);
  if (ahead < kKeys - 1) MaskScores<false>(scores, ahead);
#pragma unroll
  for (int m = 0; m < Tiling::kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float rescale = SoftmaxRow(scores[m], rows, m, half);
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
        out[m][n][2 * half] *= rescale;
        out[m][n][2 * half + 1] *= rescale;
      }
    }
  }
  AddWeighted<kWidth, Tiling::kRowTiles, kKeys>(out, scores, values);
}

template <int kWidth>
__global__ void __launch_bounds__(ForwardTiling<kWidth>::kThreads, 2)
    ForwardKernel(ForwardOperands operands, TileOrder order) {
  using Tiling = ForwardTiling<kWidth>;
  constexpr int kRowTiles = Tiling::kRowTiles;
  constexpr int kThreads = Tiling::kThreads;
  const Shape& shape = operands.shape;
  const auto [pair, block_query] = order.FindQueries(blockIdx.x, Tiling::kQueries);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int query = block_query + warp * Tiling::kWarpQueries;

  auto* queries = reinterpret_cast<Bf16*>(DynamicShared());
  Bf16* warp_queries = queries + warp * Tiling::kWarpQueries * kTileStride<kWidth>;
  Bf16* keys = queries + Tiling::kQueryElements;
  Bf16* values = keys + 2 * Tiling::kKeyElements;
  const int64_t stride = shape.qkv_stride();
  const TileCopier<kWidth, kThreads> copier(operands.qkv + shape.QueryOffset(pair),
                                            static_cast<int>(stride));
  auto begin_copy = [&](int key) {
    const int buffer = key / Tiling::kKeys % 2 * Tiling::kKeyElements;
    BeginKeys<Tiling::kKeys>(copier, shape, key, keys + buffer, values + buffer);
    CommitCopies();
  };
  copier.template Begin<Tiling::kQueries>(queries, block_query * stride,
                                          shape.length - block_query);
  begin_copy(0);

  __shared__ int kept_pair;  // for the end; registers are scarce
  if (threadIdx.x == 0) kept_pair = pair;
  OnlineRows<kRowTiles> rows;
  StartRows(operands, pair, query, rows);
  float out[kRowTiles][kWidth / 8][4];
  SetZero<kWidth>(out);
  WaitForCopies<0>();
  __syncthreads();
  const typename Tiling::Rows query_rows(warp_queries);
  // Keys beyond T come after every query.
  const int end = min(block_query + Tiling::kQueries, shape.length);
  for (int key = 0; key < end; key += Tiling::kKeys) {
    if (key > 0) {
      WaitForCopies<0>();
      __syncthreads();  // the tile is there, and nobody reads the one before any more
    }
    if (key + Tiling::kKeys < end) begin_copy(key + Tiling::kKeys);
    const int ahead = query - key;
    if (ahead + Tiling::kWarpQueries <= 0 || query >= shape.length) continue;
    const int buffer = key / Tiling::kKeys % 2 * Tiling::kKeyElements;
    ForwardTile<Tiling, kWidth>(query_rows, keys + buffer, values + buffer, ahead, rows, out);
  }
  FinishRows<kWidth>(operands, kept_pair, query, rows, out);
  StoreRows<kWidth>(out, operands.out + shape.OutOffset(kept_pair) + query * shape.out_stride(),
                    shape.out_stride(), shape.length - query);
}

}  // namespace

void TensorForward(Context& context, const AttentionForwardArgs& args) {
  const Shape shape(args.qkv);
  DispatchWidth(shape.width, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    using Tiling = ForwardTiling<kWidth>;
    const ForwardOperands operands(args);
    const TileOrder order(shape, Tiling::kQueries);
    AllowSharedBytes(ForwardKernel<kWidth>, Tiling::kSharedBytes);
    Launch(ForwardKernel<kWidth>, order.blocks(), Tiling::kThreads, Tiling::kSharedBytes,
           context.cuda().stream, operands, order);
  });
}

}  // namespace entrain::cuda::attention
