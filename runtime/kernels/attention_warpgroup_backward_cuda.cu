// Attention's backward on Hopper's tensor cores: as in attention_backward_cuda.cu, a kernel whose blocks own keys, for dK and
// dV, and one whose blocks own queries, for dQ. Products run beside arithmetic: while a consumer's scores become gradients,
// its sums of the tile before are under way, and what the other consumer has begun.
#include "runtime/kernels/attention_gradient_cuda.cuh"
#include "runtime/kernels/attention_warpgroup_pipeline_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

struct BackwardOperands {
  Shape shape;
  RowTerms rows;
  const Bf16* qkv;
  const Bf16* dout;
  Bf16* dqkv;
};

using Tuned = Tuning</*consumers=*/2, /*stages=*/6>;

constexpr int kRows = Tuned::kRows;  // of an item
constexpr int kRowElements = kRows * kHopperWidth;
static_assert(RowTerms::kPadding % kTileRows == 0);

// Terms of a row and those after it. position: a multiple of RowTerms::kBlock.
__device__ __forceinline__ float* TermsFrom(const RowTerms& rows, int pair, int position) {
  return rows.values + (int64_t{pair} * rows.padded_length + position) * kRowTerms;
}

// ---- dK and dV ----

// Terms of a tile of queries: those before kTileTerms. kFlat: scale, factor and slope are the same in all rows of a pair but
// the first, and are taken from the second; so that a column has two numbers of its own instead of five. Reading them from
// shared memory for each row of scores is what the kernel has most to do beside its products.
constexpr int kTileTerms = kSlope + 1;
constexpr int kTileTermFloats = kTileTerms * kTileRows;
constexpr int kFlatFloats = 12;  // four rows of scale, factor and slope

using KeyMemory = Memory<Tuned, 2, kTileTermFloats, kFlatFloats>;

using KeyItems = Items<true, Tuned::kConsumers>;

template <bool kFlat>
struct KeyCopies {
  using Memory = KeyMemory;
  using Items = KeyItems;

  const BackwardOperands& operands;
  const KeyMemory& memory;

  __device__ __forceinline__ void BeginItem(int slot, const Item& item) const {
    const Shape& shape = operands.shape;
    const Copier copier(shape.qkv_stride());
    const Bf16* pair = operands.qkv + shape.QueryOffset(item.pair) + shape.out_stride();
    Items::CopyRows(item, shape.length, [&](int row, int consumer) {
      const Bf16* keys = pair + row * shape.qkv_stride();
      Bf16* to = memory.Rows(slot) + consumer * kTileElements;
      copier.Begin(to, keys, shape.length - row);
      copier.Begin(to + kRowElements, keys + shape.out_stride(), shape.length - row);
    });
    const int thread = ProducerThread();
    if (!kFlat || thread >= kFlatFloats / 4) return;
    static_assert(kScale == 0 && kFactor == 2 && kSlope == 4);
    CopyAsync16(memory.ItemTerms(slot) + thread * 4,
                TermsFrom(operands.rows, item.pair, 0) + 2 * thread * RowTerms::kBlock);
  }

  __device__ __forceinline__ void BeginTile(int stage, const Item& item, int row) const {
    const Shape& shape = operands.shape;
    Bf16* tile = memory.Tile(stage);
    const int valid = shape.length - row;
    Copier(shape.qkv_stride())
        .Begin(tile, operands.qkv + shape.QueryOffset(item.pair) + row * shape.qkv_stride(), valid);
    Copier(shape.out_stride())
        .Begin(tile + kTileElements,
               operands.dout + shape.OutOffset(item.pair) + row * shape.out_stride(), valid);
    constexpr int kBlockChunks = kTileTerms * RowTerms::kBlock / 4;
    const float* from = TermsFrom(operands.rows, item.pair, row);
    static_assert(kTileTermFloats / 4 <= kWarpgroup);
    const int chunk = ProducerThread();
    if (chunk >= kTileTermFloats / 4) return;
    const int skipped = chunk / kBlockChunks * (kRowTerms - kTileTerms) * RowTerms::kBlock;
    CopyAsync16(memory.TileTerms(stage) + chunk * 4, from + chunk * 4 + skipped);
  }
};

// Scale, factor and slope of all rows of a pair but the first.
struct FlatTerms {
  float scale = 0.0F;
  float factor = 0.0F;
  float slope = 0.0F;

  __device__ __forceinline__ void Load(const float* flat) {
    scale = flat[1];
    factor = flat[5];
    slope = flat[9];
  }
};

// Probabilities and gradients of the transposed scores [64 keys][64 queries].
template <bool kWithEntropy, bool kFlat>
__device__ __forceinline__ void KeyGradients(Sums& scores, Sums& dprobs, const float* terms,
                                             const FlatTerms& flat) {
  terms += static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int n = 0; n < kTileRows / 8; ++n) {
    // Or else the compiler reads the terms of all n at once, and has no registers left for what outlives them.
    if (n % 2 == 0) __syncwarp();
    const float* columns = terms + n / 4 * (kTileTerms * RowTerms::kBlock) + n % 4 * 8;
    auto two = [&](int term) {
      return *reinterpret_cast<const float2*>(columns + term * RowTerms::kBlock);
    };
    const float2 log_sum = two(kLogSum);
    const float2 offset = two(kOffset);
    const float2 scale = kFlat ? make_float2(flat.scale, flat.scale) : two(kScale);
    const float2 factor = kFlat ? make_float2(flat.factor, flat.factor) : two(kFactor);
    float2 slope = {};
    if constexpr (kWithEntropy) slope = kFlat ? make_float2(flat.slope, flat.slope) : two(kSlope);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      auto of = [&](const float2& term) { return i % 2 == 0 ? term.x : term.y; };
      ScoreGradient<kWithEntropy>(scores[0][n][i], dprobs[0][n][i], of(scale), of(log_sum),
                                  of(factor), of(offset), of(slope));
    }
  }
}

template <bool kWithEntropy, bool kFlat>
__device__ __forceinline__ void MakeKeyGradients(const BackwardOperands& operands,
                                                 const KeyMemory& memory) {
  Consumer<KeyMemory> consumer(memory);
  while (consumer.WaitForItem()) {
    Fragments keys;
    Fragments values;
    FlatTerms flat;
    LoadRows(keys, consumer.rows());
    LoadRows(values, consumer.rows() + kRowElements);
    if constexpr (kFlat) flat.Load(memory.ItemTerms(consumer.slot()));
    const Item item = consumer.TakeItem();
    Sums scores;
    Sums dprobs;
    auto begin_scores = [&] {
      BeginTransposed(scores, keys, consumer.tile());
      BeginTransposed(dprobs, values, consumer.tile() + kTileElements);
      CommitProducts();
    };
    Fragments probs;  // of one tile, while scores of the next are made
    Fragments gradients;
    Sums dkeys;
    Sums dvalues;
    auto begin_sums = [&](const Bf16* tile) {
      BeginSum(dvalues, probs, tile + kTileElements);
      BeginSum(dkeys, gradients, tile);
      CommitProducts();
    };
    auto make_gradients = [&] {
      KeyGradients<kWithEntropy, kFlat>(scores, dprobs, memory.TileTerms(consumer.stage()), flat);
    };

    int left = consumer.Skip(item, KeyItems::Skipped(consumer.number()));
    if (left <= 0) continue;
    SetZero<kHopperWidth>(dkeys);
    SetZero<kHopperWidth>(dvalues);
    BeginProducts();
    begin_scores();
    WaitForProducts<0>(scores[0], dprobs[0]);
    MaskScores<true>(scores, -(WarpRow() % kTileRows));
    make_gradients();
    // Row 0 of a sequence, in its one column that is not masked.
    if (kFlat && item.own == 0 && threadIdx.x == 0) dprobs[0][0][0] = 0.0F;
    Pack(probs, scores);
    Pack(gradients, dprobs);
    while (--left > 0) {
      const auto before = consumer.Advance();
      BeginProducts();
      begin_scores();
      begin_sums(memory.Tile(before.stage));
      WaitForProducts<1>(scores[0], dprobs[0]);
      make_gradients();
      WaitForProducts<0>(dkeys[0], dvalues[0]);
      consumer.Release(before);
      Pack(probs, scores);
      Pack(gradients, dprobs);
    }
    BeginProducts();
    begin_sums(consumer.tile());
    WaitForProducts<0>(dkeys[0], dvalues[0]);
    consumer.FinishItem();
    const Shape& shape = operands.shape;
    const int key = item.own + WarpRow();
    const int64_t stride = shape.qkv_stride();
    Bf16* to = operands.dqkv + shape.QueryOffset(item.pair) + shape.out_stride() + key * stride;
    StoreRows<kHopperWidth>(dkeys, to, stride, shape.length - key);
    StoreRows<kHopperWidth>(dvalues, to + shape.out_stride(), stride, shape.length - key);
  }
}

template <bool kWithEntropy, bool kFlat>
__global__ void __launch_bounds__(Tuned::kThreads, 1)
    WarpgroupKeyGradientKernel(BackwardOperands operands, Schedule schedule) {
  const KeyMemory memory;
  RunPipeline<Tuned>(KeyCopies<kFlat>{operands, memory}, schedule,
                     [&] { MakeKeyGradients<kWithEntropy, kFlat>(operands, memory); });
}

// ---- dQ and the temperature's moments ----

using QueryMemory = Memory<Tuned, 2, 0, kRowTerms * kRows>;
using QueryItems = Items<false, Tuned::kConsumers>;

struct QueryCopies {
  using Memory = QueryMemory;
  using Items = QueryItems;

  const BackwardOperands& operands;
  const QueryMemory& memory;

  __device__ __forceinline__ void BeginItem(int slot, const Item& item) const {
    const Shape& shape = operands.shape;
    const Bf16* queries = operands.qkv + shape.QueryOffset(item.pair);
    const Bf16* douts = operands.dout + shape.OutOffset(item.pair);
    Items::CopyRows(item, shape.length, [&](int row, int consumer) {
      Bf16* to = memory.Rows(slot) + consumer * kTileElements;
      const int valid = shape.length - row;
      Copier(shape.qkv_stride()).Begin(to, queries + row * shape.qkv_stride(), valid);
      Copier(shape.out_stride()).Begin(to + kRowElements, douts + row * shape.out_stride(), valid);
      constexpr int kTerms = kRowTerms * kTileRows;
      const float* from = TermsFrom(operands.rows, item.pair, row);
      float* terms = memory.ItemTerms(slot) + consumer * kTerms;
      for (int at = ProducerThread() * 4; at < kTerms; at += kWarpgroup * 4) {
        CopyAsync16(terms + at, from + at);
      }
    });
  }

  __device__ __forceinline__ void BeginTile(int stage, const Item& item, int row) const {
    BeginKeyTile(memory, stage, operands.shape, operands.qkv, item.pair, row);
  }
};

template <bool kWithEntropy, bool kWithMoment>
__device__ __forceinline__ void MakeQueryGradients(const BackwardOperands& operands,
                                                   const QueryMemory& memory) {
  Consumer<QueryMemory> consumer(memory);
  while (consumer.WaitForItem()) {
    Fragments queries;
    Fragments douts;
    LoadRows(queries, consumer.rows());
    LoadRows(douts, consumer.rows() + kRowElements);
    constexpr int kBlock = RowTerms::kBlock;
    const int warp_row = WarpRow();
    LaneTerms<1> terms(memory.ItemTerms(consumer.slot()) +
                       warp_row / kBlock * (kRowTerms * kBlock) + warp_row % kBlock);
    const Item item = consumer.TakeItem();
    Sums scores;
    Sums dprobs;
    auto begin_scores = [&] {
      BeginTransposed(scores, queries, consumer.tile());
      BeginTransposed(dprobs, douts, consumer.tile() + kTileElements);
      CommitProducts();
    };
    Fragments gradients;  // of one tile, while scores of the next are made
    Sums dqueries;
    auto begin_sums = [&](const Bf16* tile) {
      BeginSum(dqueries, gradients, tile);
      CommitProducts();
    };
    auto make_gradients = [&] { Gradients<kWithEntropy, kWithMoment, 1>(scores, dprobs, terms); };

    int left = consumer.Skip(item, QueryItems::Skipped(consumer.number()));
    if (left <= 0) continue;
    SetZero<kHopperWidth>(dqueries);
    BeginProducts();
    begin_scores();
    WaitForProducts<0>(scores[0], dprobs[0]);
    MaskScores<false>(scores, WarpRow() % kTileRows);
    make_gradients();
    Pack(gradients, dprobs);
    while (--left > 0) {
      const auto before = consumer.Advance();
      BeginProducts();
      begin_scores();
      begin_sums(memory.Tile(before.stage));
      WaitForProducts<1>(scores[0], dprobs[0]);
      make_gradients();
      WaitForProducts<0>(dqueries[0]);
      consumer.Release(before);
      Pack(gradients, dprobs);
    }
    BeginProducts();
    begin_sums(consumer.tile());
    WaitForProducts<0>(dqueries[0]);
    consumer.FinishItem();
    const int query = item.own + WarpRow();
    if constexpr (kWithMoment) StoreMoments(terms, operands.rows.Of(item.pair, query));
    const Shape& shape = operands.shape;
    const int64_t stride = shape.qkv_stride();
    StoreRows<kHopperWidth>(dqueries, operands.dqkv + shape.QueryOffset(item.pair) + query * stride,
                            stride, shape.length - query);
  }
}

template <bool kWithEntropy, bool kWithMoment>
__global__ void __launch_bounds__(Tuned::kThreads, 1)
    WarpgroupQueryGradientKernel(BackwardOperands operands, Schedule schedule) {
  const QueryMemory memory;
  RunPipeline<Tuned>(QueryCopies{operands, memory}, schedule,
                     [&] { MakeQueryGradients<kWithEntropy, kWithMoment>(operands, memory); });
}

// ---- launches ----

template <bool kWithEntropy>
void LaunchGradients(Context& context, const BackwardOperands& operands, bool flat, bool moment) {
  const TileOrder order(operands.shape, kRows);
  LaunchItems<Tuned>(context,
                     flat ? WarpgroupKeyGradientKernel<kWithEntropy, true>
                          : WarpgroupKeyGradientKernel<kWithEntropy, false>,
                     KeyMemory::kBytes, order, operands);
  LaunchItems<Tuned>(context,
                     moment ? WarpgroupQueryGradientKernel<kWithEntropy, true>
                            : WarpgroupQueryGradientKernel<kWithEntropy, false>,
                     QueryMemory::kBytes, order, operands);
}

}  // namespace

void WarpgroupBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows) {
  const Shape shape(args.qkv);
  const BackwardOperands operands = {.shape = shape,
                                     .rows = rows,
                                     .qkv = args.qkv.data<Bf16>(),
                                     .dout = args.dout.data<Bf16>(),
                                     .dqkv = args.dqkv.data<Bf16>()};
  const bool per_query = (args.temperature && args.temperature.num_dims() == 2) ||
                         (args.entropy_gradient && args.entropy_gradient.num_dims() == 3);
  const auto moment = static_cast<bool>(args.dtemperature);
  if (args.entropy_gradient) {
    LaunchGradients<true>(context, operands, !per_query, moment);
  } else {
    LaunchGradients<false>(context, operands, !per_query, moment);
  }
}

}  // namespace entrain::cuda::attention
