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
  static constexpr int kBlocks = 1;     // of a multiprocessor
  static constexpr bool kStays = true;  // a block takes item after item, instead of one each
};

constexpr int kRows = Tuning::kWarpgroups * kTileRows;  // of an item
constexpr int kThreads = Tuning::kWarpgroups * kWarpgroup;
constexpr int kRowElements = kRows * kHopperWidth;
static_assert(RowTerms::kPadding % kRows == 0);

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

using KeyMemory = Memory<2 * kRows, kTileTermFloats, kFlatFloats>;

template <bool kFlat>
struct KeyCopies {
  using Way = attention::Way<true, kRows>;

  const BackwardOperands& operands;
  const KeyMemory& memory;
  Way way;

  __device__ __forceinline__ void BeginItem(const Step& step) const {
    const Copier<kThreads> copier;
    const Shape& shape = operands.shape;
    const auto stride = static_cast<int>(shape.qkv_stride());
    const Bf16* keys =
        operands.qkv + step.qkv_offset + shape.out_stride() + int64_t{step.own} * stride;
    Bf16* own = memory.Item(step.round);
    const int valid = shape.length - step.own;
    copier.Begin<kRows>(own, keys, stride, valid);
    copier.Begin<kRows>(own + kRowElements, keys + shape.out_stride(), stride, valid);
    if (!kFlat || threadIdx.x >= kFlatFloats / 4) return;
    static_assert(kScale == 0 && kFactor == 2 && kSlope == 4);
    const int term = 2 * static_cast<int>(threadIdx.x);
    CopyAsync16(memory.ItemTerms(step.round) + threadIdx.x * 4,
                TermsFrom(operands.rows, step.pair, 0) + term * RowTerms::kBlock);
  }

  __device__ __forceinline__ void BeginTile(int turn, const Step& step) const {
    const Copier<kThreads> copier;
    const Shape& shape = operands.shape;
    const auto stride = static_cast<int>(shape.qkv_stride());
    const auto out_stride = static_cast<int>(shape.out_stride());
    Bf16* tile = memory.Tile(turn);
    const int valid = shape.length - step.other;
    copier.Begin<kTileRows>(tile, operands.qkv + step.qkv_offset + int64_t{step.other} * stride,
                            stride, valid);
    copier.Begin<kTileRows>(tile + kTileElements,
                            operands.dout + step.out_offset + int64_t{step.other} * out_stride,
                            out_stride, valid);
    constexpr int kBlockChunks = kTileTerms * RowTerms::kBlock / 4;
    static_assert(kTileTermFloats / 4 <= kThreads);
    const int thread = static_cast<int>(threadIdx.x);
    if (thread >= kTileTermFloats / 4) return;
    const int skipped = thread / kBlockChunks * (kRowTerms - kTileTerms) * RowTerms::kBlock;
    CopyAsync16(memory.TileTerms(turn) + thread * 4,
                TermsFrom(operands.rows, step.pair, step.other) + thread * 4 + skipped);
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
__global__ void __launch_bounds__(kThreads, Tuning::kBlocks)
    WarpgroupKeyGradientKernel(BackwardOperands operands) {
  if constexpr (!kWarpgroupProducts) {
    Trap();
    return;
  }
  const KeyMemory memory;
  const KeyCopies<kFlat> copies = {operands, memory, {operands.order, operands.shape}};
  BeginWay(copies);

  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16;  // the warp's first, in an item
  Fragments keys;
  Fragments values;
  FlatTerms flat;
  auto load_rows = [&](int round) {
    const Bf16* own = memory.Item(round);
    LoadRows(keys, own);
    LoadRows(values, own + kRowElements);
    if constexpr (kFlat) flat.Load(memory.ItemTerms(round));
  };
  Sums scores;
  Sums dprobs;
  auto begin_scores = [&](int turn) {
    BeginTransposed(scores, keys, memory.Tile(turn));
    BeginTransposed(dprobs, values, memory.Tile(turn) + kTileElements);
    CommitProducts();
  };
  Fragments probs;  // of one tile, while scores of the next are made
  Fragments gradients;
  Sums dkeys;
  Sums dvalues;
  auto begin_sums = [&](int turn) {
    BeginSum(dvalues, probs, memory.Tile(turn) + kTileElements);
    BeginSum(dkeys, gradients, memory.Tile(turn));
    CommitProducts();
  };
  auto make_gradients = [&](int turn, int own, int other) {
    const int behind = other - own - warp_row;
    if (behind < 15) MaskScores<true>(scores, behind);
    KeyGradients<kWithEntropy, kFlat>(scores, dprobs, memory.TileTerms(turn), flat);
    // Row 0 of a sequence, in its one column that is not masked.
    if (kFlat && other == 0 && threadIdx.x == 0) dprobs[0][0][0] = 0.0F;
  };
  auto store = [&](const Step& step) {
    const Shape& shape = operands.shape;
    const int key = step.own + warp_row;
    const int64_t stride = shape.qkv_stride();
    Bf16* to = operands.dqkv + step.qkv_offset + shape.out_stride() + key * stride;
    StoreRows<kHopperWidth>(dkeys, to, stride, shape.length - key);
    StoreRows<kHopperWidth>(dvalues, to + shape.out_stride(), stride, shape.length - key);
  };
  auto clear = [&] {
    SetZero<kHopperWidth>(dkeys);
    SetZero<kHopperWidth>(dvalues);
  };

  clear();
  load_rows(0);
  BeginProducts();
  begin_scores(0);
  Proceed(copies, -1);
  WaitForProducts<0>(scores[0], dprobs[0]);
  make_gradients(0, memory.At(0).own, memory.At(0).other);
  int turn = 0;
  bool ended = false;  // whether sums under way are the item's last
  for (Step next = memory.At(1);;) {
    WaitForProducts<0>(dkeys[0], dvalues[0]);
    if (ended) {
      store(memory.At(turn - 1));
      clear();
    }
    Pack(probs, scores);
    Pack(gradients, dprobs);
    if (next.pair < 0) break;
    ended = KeyCopies<kFlat>::Way::IsFirst(next);
    if (ended) load_rows(next.round);
    BeginProducts();
    begin_scores(turn + 1);
    begin_sums(turn);
    Proceed(copies, turn);
    WaitForProducts<1>(scores[0], dprobs[0]);
    make_gradients(turn + 1, next.own, next.other);
    next = memory.At(turn + 2);
    turn = Uniform(turn + 1);
  }
  BeginProducts();
  begin_sums(turn);
  WaitForProducts<0>(dkeys[0], dvalues[0]);
  store(memory.At(turn));
}

// ---- dQ and the temperature's moments ----

using QueryMemory = Memory<2 * kRows, 0, kRowTerms * kRows>;

struct QueryCopies {
  using Way = attention::Way<false, kRows>;

  const BackwardOperands& operands;
  const QueryMemory& memory;
  Way way;

  __device__ __forceinline__ void BeginItem(const Step& step) const {
    const Copier<kThreads> copier;
    const Shape& shape = operands.shape;
    const auto stride = static_cast<int>(shape.qkv_stride());
    const auto out_stride = static_cast<int>(shape.out_stride());
    Bf16* own = memory.Item(step.round);
    const int valid = shape.length - step.own;
    copier.Begin<kRows>(own, operands.qkv + step.qkv_offset + int64_t{step.own} * stride, stride,
                        valid);
    copier.Begin<kRows>(own + kRowElements,
                        operands.dout + step.out_offset + int64_t{step.own} * out_stride,
                        out_stride, valid);
    const float* from = TermsFrom(operands.rows, step.pair, step.own);
    float* terms = memory.ItemTerms(step.round);
    static_assert(kRowTerms * kRows / 4 % kThreads == 0);
#pragma unroll
    for (int begin = 0; begin < kRowTerms * kRows; begin += kThreads * 4) {
      const int at = begin + static_cast<int>(threadIdx.x) * 4;
      CopyAsync16(terms + at, from + at);
    }
  }

  __device__ __forceinline__ void BeginTile(int turn, const Step& step) const {
    const Copier<kThreads> copier;
    const Shape& shape = operands.shape;
    const auto stride = static_cast<int>(shape.qkv_stride());
    const Bf16* keys =
        operands.qkv + step.qkv_offset + shape.out_stride() + int64_t{step.other} * stride;
    Bf16* tile = memory.Tile(turn);
    const int valid = shape.length - step.other;
    copier.Begin<kTileRows>(tile, keys, stride, valid);
    copier.Begin<kTileRows>(tile + kTileElements, keys + shape.out_stride(), stride, valid);
  }
};

template <bool kWithEntropy, bool kWithMoment>
__global__ void __launch_bounds__(kThreads, Tuning::kBlocks)
    WarpgroupQueryGradientKernel(BackwardOperands operands) {
  if constexpr (!kWarpgroupProducts) {
    Trap();
    return;
  }
  const QueryMemory memory;
  const QueryCopies copies = {operands, memory, {operands.order, operands.shape}};
  BeginWay(copies);

  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16;  // the warp's first, in an item
  Fragments queries;
  Fragments douts;
  LaneTerms<1> terms;
  auto load_rows = [&](int round) {
    const Bf16* own = memory.Item(round);
    LoadRows(queries, own);
    LoadRows(douts, own + kRowElements);
    constexpr int kBlock = RowTerms::kBlock;
    terms = LaneTerms<1>(memory.ItemTerms(round) + warp_row / kBlock * (kRowTerms * kBlock) +
                         warp_row % kBlock);
  };
  Sums scores;
  Sums dprobs;
  auto begin_scores = [&](int turn) {
    BeginTransposed(scores, queries, memory.Tile(turn));
    BeginTransposed(dprobs, douts, memory.Tile(turn) + kTileElements);
    CommitProducts();
  };
  Fragments gradients;  // of one tile, while scores of the next are made
  Sums dqueries;
  auto begin_sums = [&](int turn) {
    BeginSum(dqueries, gradients, memory.Tile(turn));
    CommitProducts();
  };
  auto make_gradients = [&](int own, int other) {
    const int before = own + warp_row - other;
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
    const int64_t stride = operands.shape.qkv_stride();
    StoreRows<kHopperWidth>(dqueries, operands.dqkv + step.qkv_offset + query * stride, stride,
                            operands.shape.length - query);
  };

  SetZero<kHopperWidth>(dqueries);
  load_rows(0);
  BeginProducts();
  begin_scores(0);
  Proceed(copies, -1);
  WaitForProducts<0>(scores[0], dprobs[0]);
  make_gradients(memory.At(0).own, memory.At(0).other);
  int turn = 0;
  bool ended = false;  // whether sums under way are the item's last
  for (Step next = memory.At(1);;) {
    WaitForProducts<0>(dqueries[0]);
    if (ended) {
      store(memory.At(turn - 1));
      SetZero<kHopperWidth>(dqueries);
    }
    Pack(gradients, dprobs);
    if (next.pair < 0) break;
    ended = QueryCopies::Way::IsFirst(next);
    if (ended) {
      store_moments(memory.At(turn));
      load_rows(next.round);
    }
    BeginProducts();
    begin_scores(turn + 1);
    begin_sums(turn);
    Proceed(copies, turn);
    WaitForProducts<1>(scores[0], dprobs[0]);
    make_gradients(next.own, next.other);
    next = memory.At(turn + 2);
    turn = Uniform(turn + 1);
  }
  store_moments(memory.At(turn));
  BeginProducts();
  begin_sums(turn);
  WaitForProducts<0>(dqueries[0]);
  store(memory.At(turn));
}

// ---- launches ----

template <bool kWithEntropy>
void LaunchGradients(Context& context, const BackwardOperands& operands, bool flat, bool moment) {
  LaunchItems<Tuning>(context,
                      flat ? WarpgroupKeyGradientKernel<kWithEntropy, true>
                           : WarpgroupKeyGradientKernel<kWithEntropy, false>,
                      KeyMemory::kBytes, operands.order, operands);
  LaunchItems<Tuning>(context,
                      moment ? WarpgroupQueryGradientKernel<kWithEntropy, true>
                             : WarpgroupQueryGradientKernel<kWithEntropy, false>,
                      QueryMemory::kBytes, operands.order, operands);
}

}  // namespace

void WarpgroupBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows) {
  const Shape shape(args.qkv);
  const BackwardOperands operands = {.shape = shape,
                                     .order = TileOrder(shape, kRows),
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
