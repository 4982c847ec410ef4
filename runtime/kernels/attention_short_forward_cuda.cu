// Attention's forward on tensor cores for sequences of up to 256 positions: a block owns a whole (sequence, head) pair.
//
// Such a forward waits for memory, not for products. q, k and v are read once, all at the same time, and after the one
// barrier every warp works alone: 16 queries, then 16 more, as far from the end as the first are from the start, so that all
// warps see equally many keys. Up to 128 positions a row's scores are all held in registers: its maximum is known before the
// first power is taken, and nothing is rescaled. Beyond, 64 keys are held at a time, so that 16 warps fit on a multiprocessor.
#include "runtime/kernels/attention_online_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

constexpr int kQueries = 16;  // of a warp at a time
constexpr int kKeys = 32;     // at a time: enough independent products

template <int kWidth, int kLength>
struct ShortTiling {
  static constexpr int kWarps = kLength / (2 * kQueries);
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kParts = kLength == 128 ? 4 : 2;  // of kKeys each, held at once
  // On a multiprocessor: each leaves a thread so many registers that nothing spills.
  static constexpr int kBlocks = kLength == 128 && kWidth <= 64 ? 3 : 2;
  static constexpr int kElements = kLength * kTileStride<kWidth>;
  static constexpr int kSharedBytes = 3 * TileBytes<kWidth>(kLength);
};

// The scores of up to kParts · kKeys keys from `keys` on become the rows' powers 2^x, and their products with the values
// join `out`. ahead: the first query less the first key.
template <int kWidth, int kParts, bool kFirst>
__device__ __forceinline__ void AddKeys(const SharedRows<kWidth, 1>& queries, const Bf16* keys,
                                        const Bf16* values, int ahead, OnlineRows<1>& rows,
                                        float (&out)[1][kWidth / 8][4]) {
  constexpr int kPartElements = kKeys * kTileStride<kWidth>;
  float scores[kParts][1][kKeys / 8][4];
  const int parts = min(kParts, ahead / kKeys + 1);
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    if (part >= parts) break;
    Scores<kWidth, 1, kKeys>(scores[part], queries, keys + part * kPartElements);
    const int part_ahead = ahead - part * kKeys;
    if (part_ahead < kKeys - 1) MaskScores<false>(scores[part], part_ahead);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = rows.maximum[0][half];
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      if (part < parts) RaiseTop(scores[part][0], half, top);
    }
    top = MaxOfFour(top);
    float sum = 0.0F;
    float weighted = 0.0F;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      if (part < parts) {
        ToPowers(scores[part][0], half, top, rows.scale[0][half], sum, weighted);
      }
    }
    const float rescale = rows.Join(0, half, top, sum, weighted);
    if constexpr (!kFirst) {
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n) {
        out[0][n][2 * half] *= rescale;
        out[0][n][2 * half + 1] *= rescale;
      }
    }
  }
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    if (part >= parts) break;
    AddWeighted<kWidth, 1, kKeys>(out, scores[part], values + part * kPartElements);
  }
}

template <int kWidth, int kLength>
__global__ void __launch_bounds__((ShortTiling<kWidth, kLength>::kThreads),
                                  (ShortTiling<kWidth, kLength>::kBlocks))
    ShortForwardKernel(ForwardOperands operands) {
  using Tiling = ShortTiling<kWidth, kLength>;
  constexpr int kParts = Tiling::kParts;
  const Shape& shape = operands.shape;
  const int pair = static_cast<int>(blockIdx.x);
  auto* queries = reinterpret_cast<Bf16*>(DynamicShared());
  const Bf16* keys = queries + Tiling::kElements;
  const Bf16* values = keys + Tiling::kElements;
  const TileCopier<kWidth, Tiling::kThreads> copier(operands.qkv + shape.QueryOffset(pair),
                                                    static_cast<int>(shape.qkv_stride()));
  for (int i = 0; i < 3; ++i) {
    copier.template Begin<kLength>(queries + i * Tiling::kElements, i * shape.out_stride(),
                                   shape.length);
  }
  CommitCopies();
  __shared__ int kept_pair;  // what is made of it is not worth registers in between
  if (threadIdx.x == 0) kept_pair = pair;
  WaitForCopies<0>();
  __syncthreads();
  int query = static_cast<int>(threadIdx.x) / kWarp * kQueries;
#pragma unroll 1
  for (int turn = 0; turn < 2; ++turn, query = kLength - kQueries - query) {
    if (query >= shape.length) continue;
    const SharedRows<kWidth, 1> query_rows(queries + query * kTileStride<kWidth>);
    OnlineRows<1> rows;
    StartRows(operands, kept_pair, query, rows);
    float out[1][kWidth / 8][4];
    SetZero<kWidth>(out);
    AddKeys<kWidth, kParts, true>(query_rows, keys, values, query, rows, out);
#pragma unroll 1
    for (int key = kParts * kKeys; key <= query; key += kParts * kKeys) {
      const int offset = key * kTileStride<kWidth>;
      AddKeys<kWidth, kParts, false>(query_rows, keys + offset, values + offset, query - key, rows,
                                     out);
    }
    FinishRows<kWidth>(operands, kept_pair, query, rows, out);
    StoreRows<kWidth>(out, operands.out + shape.OutOffset(kept_pair) + query * shape.out_stride(),
                      shape.out_stride(), shape.length - query);
  }
}

template <int kWidth, int kLength>
void LaunchShort(Context& context, const AttentionForwardArgs& args) {
  using Tiling = ShortTiling<kWidth, kLength>;
  const ForwardOperands operands(args);
  AllowSharedBytes(ShortForwardKernel<kWidth, kLength>, Tiling::kSharedBytes);
  Launch(ShortForwardKernel<kWidth, kLength>, static_cast<unsigned>(operands.shape.pairs()),
         Tiling::kThreads, Tiling::kSharedBytes, context.cuda().stream, operands);
}

// Up to how many positions one kernel takes: as many as leave room for a second block on a multiprocessor, to compute while
// the other waits for memory.
template <int kWidth>
int MostPositions(const CudaDevice& device) {
  constexpr int64_t kReserved = 1024;  // of each block, by CUDA
  const auto fits = [&](int64_t bytes) {
    return 2 * (bytes + kReserved) <= device.shared_bytes + kReserved;
  };
  if constexpr (kWidth <= 64) {
    if (fits(ShortTiling<kWidth, 256>::kSharedBytes)) return 256;
  }
  return fits(ShortTiling<kWidth, 128>::kSharedBytes) ? 128 : 0;
}

}  // namespace

bool FitsShortForward(const CudaDevice& device, const AttentionForwardArgs& args) {
  const Shape shape(args.qkv);
  bool fits = false;
  if (!FitsTensorCores(shape.width, {args.qkv, args.out})) return false;
  DispatchWidth(shape.width, [&](auto width) {
    fits = shape.length <= MostPositions<decltype(width)::value>(device);
  });
  return fits;
}

void ShortForward(Context& context, const AttentionForwardArgs& args) {
  const Shape shape(args.qkv);
  DispatchWidth(shape.width, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    if constexpr (kWidth <= 64) {
      if (shape.length > 128) return LaunchShort<kWidth, 256>(context, args);
    }
    LaunchShort<kWidth, 128>(context, args);
  });
}

}  // namespace entrain::cuda::attention
