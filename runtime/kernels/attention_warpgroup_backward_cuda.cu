// Attention's backward on Hopper's tensor cores: as in attention_backward_cuda.cu, a kernel whose blocks own keys, for dK and
// dV, and one whose blocks own queries, for dQ. Products run beside arithmetic: while scores become gradients, the sums of the
// tile before are under way.
#include "runtime/kernels/attention_gradient_cuda.cuh"
#include "runtime/kernels/attention_warpgroup_cuda.cuh"

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

// What may be chosen by measurement.
struct Tuning {
  static constexpr int kWarpgroups = 2;
  static constexpr int kBlocks = 1;  // of a multiprocessor
  static constexpr int kStages =
      3;  // tiles in shared memory: of which sums, scores and copies are made
  static constexpr bool kStays = true;  // a block takes item after item, instead of one
};

// Sizes of both kernels, whose operands come in pairs: keys and values, queries and dO.
template <typename Tuned>
struct Layout {
  static constexpr int kWarpgroups = Tuned::kWarpgroups;
  static constexpr int kThreads = kWarpgroups * kWarpgroup;
  static constexpr int kRows = kWarpgroups * kTileRows;  // of an item
  static constexpr int kStages = Tuned::kStages;
  // The rows of as many items may be on their way, or not yet read.
  static constexpr int kItems = kStages - 1;
  static constexpr int kItemElements = kRows * kHopperWidth;
  static_assert(RowTerms::kPadding % kRows == 0);
};

// Tiles of two tensors each in turn.
template <int kElements>
__device__ __forceinline__ Bf16* TilePair(Bf16* first, int turn) {
  return first + turn * 2 * kElements;
}

// ---- dK and dV ----

// Terms of a tile of queries: those before kTileTerms. kFlat: scale, factor and slope are the same in all rows of a pair but
// the first, and are taken from the second; so that a column has two numbers of its own instead of five. Reading them from
// shared memory for each row of scores is what the kernel has most to do beside its products.
constexpr int kTileTerms = kSlope + 1;
constexpr int kTileTermFloats = kTileTerms * kTileRows;
constexpr int kFlatFloats = 12;  // four rows of three terms

template <typename Tuned>
struct KeyLayout : Layout<Tuned> {
  using Base = Layout<Tuned>;
  static constexpr int kSharedBytes =
      kTileAlignment +
      2 * (Base::kStages * kTileElements + Base::kItems * Base::kItemElements) *
          static_cast<int>(sizeof(Bf16)) +
      Base::kStages *
          (kTileTermFloats * static_cast<int>(sizeof(float)) + static_cast<int>(sizeof(Step))) +
      Base::kItems * kFlatFloats * static_cast<int>(sizeof(float));

  Bf16* tiles;  // queries, dO
  Bf16* items;  // keys, values
  float* terms;
  float* flat;
  Step* steps;

  __device__ __forceinline__ KeyLayout()
      : tiles(reinterpret_cast<Bf16*>(AlignedShared())),
        items(tiles + Base::kStages * 2 * kTileElements),
        terms(reinterpret_cast<float*>(items + Base::kItems * 2 * Base::kItemElements)),
        flat(terms + Base::kStages * kTileTermFloats),
        steps(reinterpret_cast<Step*>(flat + Base::kItems * kFlatFloats)) {}
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

__device__ __forceinline__ void BeginFlatCopy(float* flat, const float* rows) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 3) CopyAsync16(flat + thread * 4, rows + 2 * thread * RowTerms::kBlock);
}
static_assert(kScale == 0 && kFactor == 2 && kSlope == 4);

template <int kThreads>
__device__ __forceinline__ void BeginTermCopy(float* terms, const float* rows) {
  constexpr int kBlockChunks = kTileTerms * RowTerms::kBlock / 4;
  static_assert(kTileTermFloats / 4 <= kThreads);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread >= kTileTermFloats / 4) return;
  const int skipped = thread / kBlockChunks * (kRowTerms - kTileTerms) * RowTerms::kBlock;
  CopyAsync16(terms + thread * 4, rows + thread * 4 + skipped);
}

// Probabilities and gradients of the transposed scores [64 keys][64 queries].
template <bool kWithEntropy, bool kFlat>
__device__ __forceinline__ void KeyGradients(Sums& scores, Sums& dprobs, const float* terms,
                                             const FlatTerms& flat) {
  terms += static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int n = 0; n < kTileRows / 8; ++n) {
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

template <typename Tuned, bool kWithEntropy, bool kFlat>
__global__ void __launch_bounds__(Layout<Tuned>::kThreads, Tuned::kBlocks)
    WarpgroupKeyGradientKernel(BackwardOperands operands) {
  using L = KeyLayout<Tuned>;
  if constexpr (!kWarpgroupProducts) {
    Trap();
    return;
  }
  const Shape& shape = operands.shape;
  const L memory;
  const Way<true, L::kRows> way(operands.order, shape.length);
  const SwizzledCopier<L::kThreads> copier;
  const auto stride = static_cast<int>(shape.qkv_stride());
  const auto out_stride = static_cast<int>(shape.out_stride());
  auto begin_copy = [&](int turn, const Step& step) {
    const int stage = turn % L::kStages;
    if (threadIdx.x == 0) memory.steps[stage] = step;
    if (step.pair >= 0) {
      const Bf16* qkv = operands.qkv + shape.QueryOffset(step.pair);
      const Bf16* dout = operands.dout + shape.OutOffset(step.pair);
      const int item = step.round % L::kItems;
      if (way.IsFirst(step)) {
        Bf16* own = TilePair<L::kItemElements>(memory.items, item);
        const Bf16* keys = qkv + out_stride + int64_t{step.own} * stride;
        copier.template Begin<L::kRows>(own, keys, stride, shape.length - step.own);
        copier.template Begin<L::kRows>(own + L::kItemElements, keys + out_stride, stride,
                                        shape.length - step.own);
        if (kFlat) BeginFlatCopy(memory.flat + item * kFlatFloats, operands.rows.Of(step.pair, 0));
      }
      Bf16* tile = TilePair<kTileElements>(memory.tiles, stage);
      const int valid = shape.length - step.other;
      copier.template Begin<kTileRows>(tile, qkv + int64_t{step.other} * stride, stride, valid);
      copier.template Begin<kTileRows>(tile + kTileElements,
                                       dout + int64_t{step.other} * out_stride, out_stride, valid);
      BeginTermCopy<L::kThreads>(memory.terms + stage * kTileTermFloats,
                                 operands.rows.Of(step.pair, step.other));
    }
    CommitCopies();
  };
  Step ahead = way.First();  // whose copies begin next
  auto copy_ahead = [&](int turn) {
    begin_copy(turn, ahead);
    ahead = way.After(ahead);
  };
  for (int turn = 0; turn < L::kStages - 2; ++turn) copy_ahead(turn);

  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16;  // the warp's first, in an item
  Fragments keys;
  Fragments values;
  Fragments probs;      // of the step, when scores of the next are made
  Fragments gradients;  // likewise
  Sums scores;
  Sums dprobs;
  Sums dkeys;
  Sums dvalues;
  SetZero<kHopperWidth>(dkeys);
  SetZero<kHopperWidth>(dvalues);
  FlatTerms flat;
  auto await_tile = [&](int turn) {
    WaitForCopies<L::kStages - 3>();
    PublishToProducts();
    __syncthreads();  // the tile is there, and nobody reads the one before the last any more
    copy_ahead(turn + L::kStages - 2);
    return memory.steps[turn % L::kStages];
  };
  auto load_keys = [&](const Step& step) {
    const int item = step.round % L::kItems;
    const Bf16* own = TilePair<L::kItemElements>(memory.items, item) + warp_row * kHopperWidth;
    LoadRows(keys, own);
    LoadRows(values, own + L::kItemElements);
    if constexpr (kFlat) flat.Load(memory.flat + item * kFlatFloats);
  };
  auto begin_scores = [&](int turn) {
    const Bf16* tile = TilePair<kTileElements>(memory.tiles, turn % L::kStages);
    BeginTransposed(scores, keys, tile);
    BeginTransposed(dprobs, values, tile + kTileElements);
    CommitProducts();
  };
  auto begin_sums = [&](int turn) {
    const Bf16* tile = TilePair<kTileElements>(memory.tiles, turn % L::kStages);
    BeginSum(dvalues, probs, tile + kTileElements);
    BeginSum(dkeys, gradients, tile);
    CommitProducts();
  };
  auto make_gradients = [&](int turn, const Step& step) {
    const int behind = step.other - step.own - warp_row;
    if (behind < 15) MaskScores<true>(scores, behind);
    KeyGradients<kWithEntropy, kFlat>(scores, dprobs,
                                      memory.terms + turn % L::kStages * kTileTermFloats, flat);
    // Row 0 of a sequence, in its one column that is not masked.
    if (kFlat && step.other == 0 && step.own == 0 && threadIdx.x == 0) dprobs[0][0][0] = 0.0F;
  };
  auto store = [&](const Step& step) {
    const int key = step.own + warp_row;
    Bf16* to = operands.dqkv + shape.QueryOffset(step.pair) + out_stride + int64_t{key} * stride;
    StoreRows<kHopperWidth>(dkeys, to, stride, shape.length - key);
    StoreRows<kHopperWidth>(dvalues, to + out_stride, stride, shape.length - key);
    SetZero<kHopperWidth>(dkeys);
    SetZero<kHopperWidth>(dvalues);
  };

  Step step = await_tile(0);
  load_keys(step);
  BeginProducts();
  begin_scores(0);
  WaitForProducts<0>(scores[0], dprobs[0]);
  make_gradients(0, step);
  Pack(probs, scores);
  Pack(gradients, dprobs);
  int turn = 0;
  for (;;) {
    const Step next = await_tile(turn + 1);
    if (next.pair < 0) break;
    if (way.IsFirst(next)) load_keys(next);
    BeginProducts();
    begin_scores(turn + 1);
    begin_sums(turn);
    WaitForProducts<1>(scores[0], dprobs[0]);
    make_gradients(turn + 1, next);
    WaitForProducts<0>(dkeys[0], dvalues[0]);
    if (way.IsFirst(next)) store(step);
    Pack(probs, scores);
    Pack(gradients, dprobs);
    step = next;
    ++turn;
  }
  BeginProducts();
  begin_sums(turn);
  WaitForProducts<0>(dkeys[0], dvalues[0]);
  store(step);
}

// ---- dQ and the temperature's moments ----

template <typename Tuned>
struct QueryLayout : Layout<Tuned> {
  using Base = Layout<Tuned>;
  static constexpr int kItemTermFloats = kRowTerms * Base::kRows;
  static constexpr int kSharedBytes =
      kTileAlignment +
      2 * (Base::kStages * kTileElements + Base::kItems * Base::kItemElements) *
          static_cast<int>(sizeof(Bf16)) +
      Base::kItems * kItemTermFloats * static_cast<int>(sizeof(float)) +
      Base::kStages * static_cast<int>(sizeof(Step));

  Bf16* tiles;  // keys, values
  Bf16* items;  // queries, dO
  float* terms;
  Step* steps;

  __device__ __forceinline__ QueryLayout()
      : tiles(reinterpret_cast<Bf16*>(AlignedShared())),
        items(tiles + Base::kStages * 2 * kTileElements),
        terms(reinterpret_cast<float*>(items + Base::kItems * 2 * Base::kItemElements)),
        steps(reinterpret_cast<Step*>(terms + Base::kItems * kItemTermFloats)) {}
};

template <typename Tuned, bool kWithEntropy, bool kWithMoment>
__global__ void __launch_bounds__(Layout<Tuned>::kThreads, Tuned::kBlocks)
    WarpgroupQueryGradientKernel(BackwardOperands operands) {
  using L = QueryLayout<Tuned>;
  if constexpr (!kWarpgroupProducts) {
    Trap();
    return;
  }
  const Shape& shape = operands.shape;
  const L memory;
  const Way<false, L::kRows> way(operands.order, shape.length);
  const SwizzledCopier<L::kThreads> copier;
  const auto stride = static_cast<int>(shape.qkv_stride());
  const auto out_stride = static_cast<int>(shape.out_stride());
  auto begin_copy = [&](int turn, const Step& step) {
    const int stage = turn % L::kStages;
    if (threadIdx.x == 0) memory.steps[stage] = step;
    if (step.pair >= 0) {
      const Bf16* qkv = operands.qkv + shape.QueryOffset(step.pair);
      if (way.IsFirst(step)) {
        const int item = step.round % L::kItems;
        Bf16* own = TilePair<L::kItemElements>(memory.items, item);
        const int valid = shape.length - step.own;
        copier.template Begin<L::kRows>(own, qkv + int64_t{step.own} * stride, stride, valid);
        copier.template Begin<L::kRows>(
            own + L::kItemElements,
            operands.dout + shape.OutOffset(step.pair) + int64_t{step.own} * out_stride, out_stride,
            valid);
        const float* rows = operands.rows.Of(step.pair, step.own);
        float* terms = memory.terms + item * L::kItemTermFloats;
        for (int at = static_cast<int>(threadIdx.x) * 4; at < L::kItemTermFloats;
             at += L::kThreads * 4) {
          CopyAsync16(terms + at, rows + at);
        }
      }
      Bf16* tile = TilePair<kTileElements>(memory.tiles, stage);
      const Bf16* keys = qkv + out_stride + int64_t{step.other} * stride;
      const int valid = shape.length - step.other;
      copier.template Begin<kTileRows>(tile, keys, stride, valid);
      copier.template Begin<kTileRows>(tile + kTileElements, keys + out_stride, stride, valid);
    }
    CommitCopies();
  };
  Step ahead = way.First();  // whose copies begin next
  auto copy_ahead = [&](int turn) {
    begin_copy(turn, ahead);
    ahead = way.After(ahead);
  };
  for (int turn = 0; turn < L::kStages - 2; ++turn) copy_ahead(turn);

  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16;  // the warp's first, in an item
  // Terms of the warp's rows among those of an item.
  const int warp_terms =
      warp_row / RowTerms::kBlock * (kRowTerms * RowTerms::kBlock) + warp_row % RowTerms::kBlock;
  Fragments queries;
  Fragments douts;
  Fragments gradients;  // of the step, when scores of the next are made
  Sums scores;
  Sums dprobs;
  Sums dqueries;
  SetZero<kHopperWidth>(dqueries);
  LaneTerms<1> terms;
  auto await_tile = [&](int turn) {
    WaitForCopies<L::kStages - 3>();
    PublishToProducts();
    __syncthreads();  // the tile is there, and nobody reads the one before the last any more
    copy_ahead(turn + L::kStages - 2);
    return memory.steps[turn % L::kStages];
  };
  auto load_queries = [&](const Step& step) {
    const int item = step.round % L::kItems;
    const Bf16* own = TilePair<L::kItemElements>(memory.items, item) + warp_row * kHopperWidth;
    LoadRows(queries, own);
    LoadRows(douts, own + L::kItemElements);
    terms = LaneTerms<1>(memory.terms + item * L::kItemTermFloats + warp_terms);
  };
  auto begin_scores = [&](int turn) {
    const Bf16* tile = TilePair<kTileElements>(memory.tiles, turn % L::kStages);
    BeginTransposed(scores, queries, tile);
    BeginTransposed(dprobs, douts, tile + kTileElements);
    CommitProducts();
  };
  auto begin_sums = [&](int turn) {
    BeginSum(dqueries, gradients, TilePair<kTileElements>(memory.tiles, turn % L::kStages));
    CommitProducts();
  };
  auto make_gradients = [&](const Step& step) {
    const int before = step.own + warp_row - step.other;
    if (before < kTileRows - 1) MaskScores<false>(scores, before);
    Gradients<kWithEntropy, kWithMoment, 1>(scores, dprobs, terms);
  };
  auto store_moments = [&](const Step& step) {
    if constexpr (kWithMoment) {
      StoreMoments(terms, operands.rows.Of(step.pair, step.own + warp_row));
    }
  };
  auto store = [&](const Step& step) {
    const int query = step.own + warp_row;
    StoreRows<kHopperWidth>(dqueries,
                            operands.dqkv + shape.QueryOffset(step.pair) + int64_t{query} * stride,
                            stride, shape.length - query);
    SetZero<kHopperWidth>(dqueries);
  };

  Step step = await_tile(0);
  load_queries(step);
  BeginProducts();
  begin_scores(0);
  WaitForProducts<0>(scores[0], dprobs[0]);
  make_gradients(step);
  Pack(gradients, dprobs);
  int turn = 0;
  for (;;) {
    const Step next = await_tile(turn + 1);
    if (next.pair < 0) break;
    if (way.IsFirst(next)) {
      store_moments(step);
      load_queries(next);
    }
    BeginProducts();
    begin_scores(turn + 1);
    begin_sums(turn);
    WaitForProducts<1>(scores[0], dprobs[0]);
    make_gradients(next);
    WaitForProducts<0>(dqueries[0]);
    if (way.IsFirst(next)) store(step);
    Pack(gradients, dprobs);
    step = next;
    ++turn;
  }
  store_moments(step);
  BeginProducts();
  begin_sums(turn);
  WaitForProducts<0>(dqueries[0]);
  store(step);
}

// ---- launches ----

template <typename L>
void LaunchItems(Context& context, void (*kernel)(BackwardOperands), BackwardOperands operands) {
  operands.order = TileOrder(operands.shape, L::kRows);
  const auto resident = static_cast<unsigned>(context.cuda().multiprocessors * Tuning::kBlocks);
  const unsigned blocks =
      Tuning::kStays ? std::min(operands.order.blocks(), resident) : operands.order.blocks();
  AllowSharedBytes(kernel, L::kSharedBytes);
  Launch(kernel, blocks, L::kThreads, L::kSharedBytes, context.cuda().stream, operands);
}

template <bool kWithEntropy>
void LaunchGradients(Context& context, const BackwardOperands& operands, bool flat, bool moment) {
  LaunchItems<KeyLayout<Tuning>>(context,
                                 flat ? WarpgroupKeyGradientKernel<Tuning, kWithEntropy, true>
                                      : WarpgroupKeyGradientKernel<Tuning, kWithEntropy, false>,
                                 operands);
  LaunchItems<QueryLayout<Tuning>>(context,
                                   moment
                                       ? WarpgroupQueryGradientKernel<Tuning, kWithEntropy, true>
                                       : WarpgroupQueryGradientKernel<Tuning, kWithEntropy, false>,
                                   operands);
}

}  // namespace

void WarpgroupBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows) {
  const Shape shape(args.qkv);
  const BackwardOperands operands = {.shape = shape,
                                     .order = TileOrder(shape, 1),
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
