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

using ForwardMemory =
    Memory<kRows, 0, 2 * kRows>;  // floats: an item's temperatures, and inverse sums

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
    const int row = ThreadReadAnew();
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
  const int lane = Lane();
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
  float rescale[1][2];  // what out is multiplied by before the next product
  // ahead: the item's first row less the tile's.
  auto make_powers = [&](int ahead) {
    ahead += WarpRow();
    if (ahead < kTileRows - 1) MaskScores<false>(scores, ahead, Lane());
    Softmax(scores, rows, rescale);
  };
  // In shared memory until the item's last product is done: registers are scarce.
  auto finish_sums = [&](const Step& step) {
    float inverse[1][2];
    FinishSums(operands, step.pair, step.own + WarpRow(), rows, inverse);
    float* inverses = memory.ItemTerms(step.round) + kRows + WarpRow() + Lane() / 4;
    inverses[0] = inverse[0][0];
    inverses[8] = inverse[0][1];
  };
  auto store = [&](const Step& step) {
    const float* inverses = memory.ItemTerms(step.round) + kRows + WarpRow() + Lane() / 4;
    const float inverse[1][2] = {{inverses[0], inverses[8]}};
    ScaleRows(out, inverse);
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
  make_powers(memory.At(0).own - memory.At(0).other);
  int turn = 0;
  bool ended = false;  // whether the product under way is the item's last
  for (Tile next(memory.At(1));;) {
    WaitForProducts<0>(out[0]);
    if (ended) {
      store(memory.At(turn - 1));
      SetZero<kHopperWidth>(out);
    } else {
      ScaleRows(out, rescale);
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
    make_powers(next.ahead);
    next = Tile(memory.At(turn + 2));
    turn = Uniform(turn + 1);
  }
  finish_sums(memory.At(turn));
  BeginProducts();
  begin_out(turn);
  WaitForProducts<0>(out[0]);
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
