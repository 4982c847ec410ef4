// Attention's forward on Hopper's tensor cores: a block owns queries. While a consumer's scores of a tile become powers, its product
// of the tile before with its values is under way, and what other consumers have begun.
#include "runtime/kernels/attention_online_cuda.cuh"
#include "runtime/kernels/attention_warpgroup_pipeline_cuda.cuh"

namespace entrain::cuda::attention {
namespace {

using Tuned = Tuning</*consumers=*/3, /*stages=*/6>;

constexpr int kRows = Tuned::kRows;  // of an item

using ForwardMemory = Memory<Tuned, 1, 0, kRows>;  // floats: an item's temperatures
using ForwardItems = Items<false, Tuned::kConsumers>;

struct ForwardCopies {
  using Memory = ForwardMemory;
  using Items = ForwardItems;

  const ForwardOperands& operands;
  const ForwardMemory& memory;

  __device__ __forceinline__ void BeginItem(int slot, const Item& item) const {
    const Shape& shape = operands.shape;
    const Copier copier(shape.qkv_stride());
    const Bf16* queries = operands.qkv + shape.QueryOffset(item.pair);
    Items::CopyRows(item, shape.length, [&](int row, int consumer) {
      copier.Begin(memory.Rows(slot) + consumer * kTileElements, queries + row * shape.qkv_stride(),
                   shape.length - row);
    });
    const int head = item.pair % shape.heads;
    float* temperatures = memory.ItemTerms(slot);
    for (int row = ProducerThread(); row < kRows; row += kWarpgroup) {
      const int position = min(max(item.own + row, 0), shape.length - 1);
      temperatures[row] = operands.temperature.At(head, position);
    }
  }

  __device__ __forceinline__ void BeginTile(int stage, const Item& item, int row) const {
    BeginKeyTile(memory, stage, operands.shape, operands.qkv, item.pair, row);
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

__device__ __forceinline__ void MakeOut(const ForwardOperands& operands,
                                        const ForwardMemory& memory) {
  Consumer<ForwardMemory> consumer(memory);
  while (consumer.WaitForItem()) {
    Fragments queries;
    OnlineRows<1> rows;
    LoadRows(queries, consumer.rows());
    StartRows(operands.temperature, memory.ItemTerms(consumer.slot()) + WarpRow(), rows);
    const Item item = consumer.TakeItem();
    Sums scores;
    auto begin_scores = [&] {
      BeginTransposed(scores, queries, consumer.tile());
      CommitProducts();
    };
    Fragments powers;  // of one tile, while scores of the next are made
    Sums out;
    auto begin_out = [&](const Bf16* tile) {
      BeginSum(out, powers, tile + kTileElements);
      CommitProducts();
    };
    float rescale[1][2];  // what out is multiplied by before the next product

    int left = consumer.Skip(item, ForwardItems::Skipped(consumer.number()));
    if (left <= 0) continue;
    SetZero<kHopperWidth>(out);
    BeginProducts();
    begin_scores();
    WaitForProducts<0>(scores[0]);
    MaskScores<false>(scores, WarpRow() % kTileRows);
    Softmax(scores, rows, rescale);
    Pack(powers, scores);
    while (--left > 0) {
      const auto before = consumer.Advance();
      BeginProducts();
      begin_scores();
      begin_out(memory.Tile(before.stage));
      WaitForProducts<1>(scores[0]);
      Softmax(scores, rows, rescale);
      WaitForProducts<0>(out[0]);
      consumer.Release(before);
      ScaleRows(out, rescale);
      Pack(powers, scores);
    }
    BeginProducts();
    begin_out(consumer.tile());
    const int query = item.own + WarpRow();
    float inverse[1][2];
    FinishSums(operands, item.pair, query, rows, inverse);
    WaitForProducts<0>(out[0]);
    consumer.FinishItem();
    ScaleRows(out, inverse);
    const Shape& shape = operands.shape;
    const int64_t stride = shape.out_stride();
    StoreRows<kHopperWidth>(out, operands.out + shape.OutOffset(item.pair) + query * stride, stride,
                            shape.length - query);
  }
}

__global__ void __launch_bounds__(Tuned::kThreads, 1)
    WarpgroupForwardKernel(ForwardOperands operands, Schedule schedule) {
  const ForwardMemory memory;
  RunPipeline<Tuned>(ForwardCopies{operands, memory}, schedule, [&] { MakeOut(operands, memory); });
}

}  // namespace

void WarpgroupForward(Context& context, const AttentionForwardArgs& args) {
  const ForwardOperands operands(args);
  const TileOrder order(operands.shape, kRows);
  LaunchItems<Tuned>(context, WarpgroupForwardKernel, ForwardMemory::kBytes, order, operands);
}

}  // namespace entrain::cuda::attention
