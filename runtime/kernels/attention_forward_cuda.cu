// Attention's forward on tensor cores.
//
// A block owns 128 queries of a pair, a warp 32 of them, and goes over tiles of 64 keys up to the diagonal, the next tile
// on its way while one is worked on. Scores stay as they come out of the product: the difference to the running maximum is
// taken before it is scaled, so that exponents x are exactly 0 at the maximum and nowhere positive. Then Σ 2^x ≥ 1 and −Σ
// 2^x·x ≥ 0, and so is the entropy made of them, without a clamp.
#include "runtime/kernels/attention_tile_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

struct ForwardOperands {
  Shape shape;
  Temperature temperature;
  TileOrder order;
  const Bf16* qkv;
  Bf16* out;
  float* lse;
  float* lse_low;
  float* entropy;
};

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

// Running values of the warp's rows over the keys so far, as in the CPU's OnlineSoftmax: sum = Σ 2^x, weighted = −Σ 2^x·x,
// x = (q·k − maximum)·scale. [m][half]: row 16·m + 8·half + g. Sums are of the lane's own columns until the end.
template <int kRowTiles>
struct OnlineRows {
  float scale[kRowTiles][2];
  float maximum[kRowTiles][2];
  float sum[kRowTiles][2];
  float weighted[kRowTiles][2];
};

// Scales cost a division in fp64: lane l % 4 of the four that share rows makes that of row number l % 4 of theirs.
template <int kRowTiles>
__device__ __forceinline__ void StartRows(const ForwardOperands& operands, int pair, int query,
                                          OnlineRows<kRowTiles>& rows) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int position = min(query + lane % 4 * 8 + lane / 4, operands.shape.length - 1);
  const float scale = operands.temperature.Scale(pair % operands.shape.heads, position);
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      rows.scale[m][half] = ShuffleFrom(scale, lane / 4 * 4 + 2 * m + half);
      rows.maximum[m][half] = kMasked;
      rows.sum[m][half] = 0.0F;
      rows.weighted[m][half] = 0.0F;
    }
  }
}

// One of the lane's rows: scores become powers 2^x, which join the running values. Returns what earlier sums are multiplied
// by.
template <int kColumns>
__device__ __forceinline__ float SoftmaxRow(float (&scores)[kColumns][4], int half, float scale,
                                            float& maximum, float& sum, float& weighted) {
  float top = maximum;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    top = fmaxf(top, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
  }
  top = fmaxf(top, ShuffleXor(top, 1));
  top = fmaxf(top, ShuffleXor(top, 2));
  float tile_sum = 0.0F;
  float tile_weighted = 0.0F;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int i = 2 * half; i < 2 * half + 2; ++i) {
      const float x = (scores[n][i] - top) * scale;
      const float power = Exp2(x);
      tile_sum += power;
      tile_weighted = fmaf(-power, x, tile_weighted);
      scores[n][i] = power;
    }
  }
  const float rise = (top - maximum) * scale;
  const float rescale = Exp2(-rise);
  weighted = fmaf(rescale, fmaf(rise, sum, weighted), tile_weighted);
  sum = fmaf(rescale, sum, tile_sum);
  maximum = top;
  return rescale;
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
      const float rescale = SoftmaxRow(scores[m], half, rows.scale[m][half], rows.maximum[m][half],
                                       rows.sum[m][half], rows.weighted[m][half]);
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
        out[m][n][2 * half] *= rescale;
        out[m][n][2 * half + 1] *= rescale;
      }
    }
  }
  AddWeighted<kWidth, Tiling::kRowTiles, kKeys>(out, scores, values);
}

__device__ __forceinline__ float SumOfFour(float value) {
  value += ShuffleXor(value, 1);
  return value + ShuffleXor(value, 2);
}

// Sums become those of whole rows, out is divided by them, and lse and entropy are written: by lane l % 4 of the four that
// share rows, row number l % 4 of theirs.
template <int kWidth, int kRowTiles>
__device__ __forceinline__ void FinishRows(const ForwardOperands& operands, int pair, int query,
                                           OnlineRows<kRowTiles>& rows,
                                           float (&out)[kRowTiles][kWidth / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float sum = 1.0F;
  float weighted = 0.0F;
  float maximum = 0.0F;
  float scale = 0.0F;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float row_sum = SumOfFour(rows.sum[m][half]);
      const float row_weighted = SumOfFour(rows.weighted[m][half]);
      const float inverse = 1.0F / row_sum;
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
        out[m][n][2 * half] *= inverse;
        out[m][n][2 * half + 1] *= inverse;
      }
      if (lane % 4 == 2 * m + half) {
        sum = row_sum;
        weighted = row_weighted;
        maximum = rows.maximum[m][half];
        scale = rows.scale[m][half];
      }
    }
  }
  const int position = query + lane % 4 * 8 + lane / 4;
  if (lane % 4 >= 2 * kRowTiles || position >= operands.shape.length) return;
  const double log2_sum = log2(static_cast<double>(sum));
  const double lse = kLn2 * (static_cast<double>(maximum) * scale + log2_sum);
  const int64_t at = static_cast<int64_t>(pair) * operands.shape.length + position;
  operands.lse[at] = static_cast<float>(lse);
  if (operands.lse_low != nullptr) {
    operands.lse_low[at] = static_cast<float>(lse - static_cast<float>(lse));
  }
  operands.entropy[at] =
      static_cast<float>(kLn2 * (log2_sum + static_cast<double>(weighted) / sum));
}

template <int kWidth>
__global__ void __launch_bounds__(ForwardTiling<kWidth>::kThreads, 2)
    ForwardKernel(ForwardOperands operands) {
  using Tiling = ForwardTiling<kWidth>;
  constexpr int kRowTiles = Tiling::kRowTiles;
  constexpr int kThreads = Tiling::kThreads;
  const Shape& shape = operands.shape;
  int rank;
  int pair;
  operands.order.Find(blockIdx.x, rank, pair);
  const int block_query = (operands.order.tiles - 1 - rank) * Tiling::kQueries;
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
    const int64_t key_rows = shape.out_stride() + key * stride;
    copier.template Begin<Tiling::kKeys>(keys + buffer, key_rows, shape.length - key);
    copier.template Begin<Tiling::kKeys>(values + buffer, key_rows + shape.out_stride(),
                                         shape.length - key);
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
    const ForwardOperands operands = {
        .shape = shape,
        .temperature = Temperature(args.temperature, shape.width),
        .order = TileOrder(shape, Tiling::kQueries),
        .qkv = args.qkv.data<Bf16>(),
        .out = args.out.data<Bf16>(),
        .lse = args.lse.data<float>(),
        .lse_low = args.lse_low ? args.lse_low.data<float>() : nullptr,
        .entropy = args.entropy.data<float>()};
    AllowSharedBytes(ForwardKernel<kWidth>, Tiling::kSharedBytes);
    Launch(ForwardKernel<kWidth>, operands.order.blocks(), Tiling::kThreads, Tiling::kSharedBytes,
           context.cuda().stream, operands);
  });
}

}  // namespace entrain::cuda::attention
