// Attention's forward on Hopper's tensor cores: a block owns queries. While scores of a tile become powers, the product of the
// tile before with its values is under way.
#include "runtime/kernels/attention_online_cuda.cuh"
#include "runtime/kernels/attention_warpgroup_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

// What may be chosen by measurement.
struct Tuning {
  static constexpr int kWarpgroups = 2;
  static constexpr int kBlocks = 2;     // of a multiprocessor
  static constexpr bool kStays = true;  // a block takes item after item, instead of one each
};

constexpr int kRows = Tuning::kWarpgroups * kTileRows;  // of an item
constexpr int kThreads = Tuning::kWarpgroups * kWarpgroup;

using ForwardMemory = Memory<kRows, 0, kRows>;  // floats: an item's temperatures

struct ForwardCopies {
  using Way = attention::Way<false, kRows>;

  const ForwardOperands& operands;
  const ForwardMemory& memory;
  Way way;

  __device__ __forceinline__ void BeginItem(const Step& step) const {
    const Copier<kThreads> copier;
    const Shape& shape = operands.shape;
    const auto stride = static_cast<int>(shape.qkv_stride());
    copier.Begin<kRows>(memory.Item(step.round),
                        operands.qkv + step.qkv_offset + int64_t{step.own} * stride, stride,
                        shape.length - step.own);
    const int row = static_cast<int>(threadIdx.x);
    if (row >= kRows) return;
    memory.ItemTerms(step.round)[row] =
        operands.temperature.At(step.pair % shape.heads, min(step.own + row, shape.length - 1));
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

// temperatures: of the warp's rows. A scale costs a division in fp64: of the four lanes that share rows two make one each.
__device__ __forceinline__ void StartRows(const Temperature& temperature, const float* temperatures,
                                          OnlineRows<1>& rows) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const float scale = temperature.ScaleOf(temperatures[lane % 2 * 8 + lane / 4]);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    rows.scale[0][half] = ShuffleFrom(scale, lane / 4 * 4 + half);
    rows.maximum[0][half] = kMasked;
    rows.sum[0][half] = 0.0F;
    rows.weighted[0][half] = 0.0F;
  }
}

// Scores become powers, which join the running values. rescale: what earlier sums are multiplied by.
__device__ __forceinline__ void Softmax(Sums& scores, OnlineRows<1>& rows, float (&rescale)[1][2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float top = rows.maximum[0][half];
    RaiseTop(scores[0], half, top);
    top = MaxOfFour(top);
    float sum = 0.0F;
    float weighted = 0.0F;
    ToPowers(scores[0], half, top, rows.scale[0][half], sum, weighted);
    rescale[0][half] = rows.Join(0, half, top, sum, weighted);
  }
}

// What is kept of a step while products are under way.
struct Tile {
  bool none;
  bool first;  // of an item
  int ahead;   // the item's first row less the tile's

  __device__ __forceinline__ explicit Tile(const Step& step)
      : none(step.pair < 0),
        first(ForwardCopies::Way::IsFirst(step)),
        ahead(step.own - step.other) {}
};

__global__ void __launch_bounds__(kThreads, Tuning::kBlocks)
    WarpgroupForwardKernel(ForwardOperands operands, TileOrder order) {
  if constexpr (!kWarpgroupProducts) {
    Trap();
    return;
  }
  const ForwardMemory memory;
  const ForwardCopies copies = {operands, memory, {order, operands.shape}};
  BeginWay(copies);

  Fragments queries;
  OnlineRows<1> rows;
  auto start_item = [&](int round) {
    LoadRows(queries, memory.Item(round));
    StartRows(operands.temperature, memory.ItemTerms(round) + WarpRow(), rows);
  };
  Sums scores;
  auto begin_scores = [&](int turn) {
    BeginTransposed(scores, queries, memory.Tile(turn));
    CommitProducts();
  };
  Fragments powers;  // of one tile, while scores of the next are made
  Sums out;
  auto begin_out = [&](int turn) {
    BeginSum(out, powers, memory.Tile(turn) + kTileElements);
    CommitProducts();
  };
  float factors[1][2];  // what out is multiplied by next
  // ahead: the item's first row less the tile's.
  auto make_powers = [&](int ahead, float(&rescale)[1][2]) {
    ahead += WarpRow();
    if (ahead < kTileRows - 1) MaskScores<false>(scores, ahead);
    Softmax(scores, rows, rescale);
  };
  auto finish_sums = [&](const Step& step) {
    FinishSums(operands, step.pair, step.own + WarpRow(), rows, factors);
  };
  auto store = [&](const Step& step) {
    const int query = step.own + WarpRow();
    const int64_t stride = operands.shape.out_stride();
    StoreRows<kHopperWidth>(out, operands.out + step.out_offset + query * stride, stride,
                            operands.shape.length - query);
  };

  SetZero<kHopperWidth>(out);
  start_item(0);
  BeginProducts();
  begin_scores(0);
  Proceed(copies, -1);
  WaitForProducts<0>(scores[0]);
  make_powers(memory.At(0).own - memory.At(0).other, factors);
  int turn = 0;
  bool ended = false;  // whether the product under way is the item's last
  for (Tile next(memory.At(1));;) {
    WaitForProducts<0>(out[0]);
    ScaleRows(out, factors);
    if (ended) {
      store(memory.At(turn - 1));
      SetZero<kHopperWidth>(out);
    }
    Pack(powers, scores);
    if (next.none) break;
    ended = next.first;
    if (ended) {
      finish_sums(memory.At(turn));
      start_item(memory.At(turn + 1).round);
    }
    BeginProducts();
    begin_scores(turn + 1);
    begin_out(turn);
    Proceed(copies, turn);
    WaitForProducts<1>(scores[0]);
    float rescale[1][2];
    make_powers(next.ahead, rescale);
    if (!ended) {
      factors[0][0] = rescale[0][0];
      factors[0][1] = rescale[0][1];
    }
    next = Tile(memory.At(turn + 2));
    turn = Uniform(turn + 1);
  }
  finish_sums(memory.At(turn));
  BeginProducts();
  begin_out(turn);
  WaitForProducts<0>(out[0]);
  ScaleRows(out, factors);
  store(memory.At(turn));
}

}  // namespace

void WarpgroupForward(Context& context, const AttentionForwardArgs& args) {
  const ForwardOperands operands(args);
  const TileOrder order(operands.shape, kRows);
  LaunchItems<Tuning>(context, WarpgroupForwardKernel, ForwardMemory::kBytes, order, operands,
                      order);
}

}  // namespace entrain::cuda::attention
