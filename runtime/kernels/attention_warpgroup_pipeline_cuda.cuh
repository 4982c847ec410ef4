// The pipeline that brings tiles to the warpgroups of attention on Hopper.
//
// A block's warpgroups share tiles, or copying them would be the limit. It stays on its multiprocessor and takes one item after
// another (64 rows for each warpgroup): the first tiles of an item are copied while the one before is worked on, so that no item
// waits for memory at its start.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_WARPGROUP_PIPELINE_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_WARPGROUP_PIPELINE_CUDA_CUH_

#include <algorithm>

#include "runtime/device/device_memory.h"
#include "runtime/kernels/attention_warpgroup_tile_cuda.cuh"
#include "runtime/kernels/cuda_scratch.h"

namespace entrain::cuda::attention {

// ---- a block's work ----

// What may be chosen by measurement. kConsumers: warpgroups that make products, of 64 rows each; kStages: tiles in shared memory,
// at least 3.
template <int kConsumersOf, int kStagesOf>
struct Tuning {
  static constexpr int kConsumers = kConsumersOf;
  static constexpr int kStages = kStagesOf;
  static constexpr int kRows = kConsumers * kTileRows;  // of an item
  // The producer is one, too: a single warp has not the time to begin all copies, and registers are given and taken by whole ones.
  static constexpr int kThreads = (kConsumers + 1) * kWarpgroup;
  // Of a thread; together all that a multiprocessor has, but for what it cannot divide.
  static_assert(kConsumers == 2 || kConsumers == 3);
  static constexpr int kProducerRegisters = kConsumers == 2 ? 40 : 56;
  static constexpr int kConsumerRegisters = kConsumers == 2 ? 232 : 152;
};

// In which order blocks take items: whichever is free takes the next.
struct Schedule {
  TileOrder order;
  unsigned* taken;  // items, beyond the first one of each block

  __device__ __forceinline__ unsigned First() const { return blockIdx.x; }
  __device__ __forceinline__ unsigned Next() const { return gridDim.x + atomicAdd(taken, 1U); }
};

// What a block has to do for some of a pair's rows, 64 for each consumer: it goes over `tiles` tiles of 64 other rows. own: the
// first of its rows; some may be before the sequence or behind it. pair = −1: no items are left.
struct Item {
  int pair;
  int own;
  int tiles;
};

// Items of keys, each over the queries that see one of them, in order; or of queries, each over the keys that they see, from
// the last one to the first. Either way a consumer goes past some tiles of which its rows see nothing, then meets the tile that
// has its diagonal, and sees all of those after it. Rows of queries are counted from the sequence's end, so that items of many
// tiles are whole.
template <bool kOwnKeys, int kConsumers>
struct Items {
  __device__ __forceinline__ static Item Find(const TileOrder& order, int length, unsigned number) {
    Item item = {.pair = -1, .own = 0, .tiles = 1};
    if (number >= order.blocks()) return item;
    int rank;
    order.Find(number, rank, item.pair);
    const int before = rank * kConsumers;  // tiles of rows
    item.tiles = (length + kTileRows - 1) / kTileRows - before;
    item.own = (kOwnKeys ? before : item.tiles - kConsumers) * kTileRows;
    return item;
  }
  // First row of tile number i of the item.
  __device__ __forceinline__ static int RowOf(const Item& item, int i) {
    return kOwnKeys ? item.own + i * kTileRows : (item.tiles - 1 - i) * kTileRows;
  }
  // How many tiles the consumer goes past.
  __device__ __forceinline__ static int Skipped(int consumer) {
    return kOwnKeys ? consumer : kConsumers - 1 - consumer;
  }
  // copy(row, consumer): for the consumers whose rows, from `row` on, are in the sequence.
  template <typename Copy>
  __device__ __forceinline__ static void CopyRows(const Item& item, int length, const Copy& copy) {
#pragma unroll 1
    for (int consumer = 0; consumer < kConsumers; ++consumer) {
      const int row = item.own + consumer * kTileRows;
      if (row >= 0 && row < length) copy(row, consumer);
    }
  }
};

// ---- the pipeline ----
//
// One warpgroup, the producer, copies tiles to a ring of stages; the others, its consumers, never wait for each other, so that
// one's exponentials run beside another's products. Nor do the producer's warps, each of which copies its rows of every tile.
// Tiles of all items of a block are numbered: turn t has stage t % kStages, in round t / kStages of the ring. Barriers, whose
// phases are such rounds:
//   full[s]        an arrival of each producer's warp, when its part of the tile is there for products, and, if it is an item's
//                  first, of the item's rows, terms and Item, too
//   empty[s]       an arrival of each consumers' warp, when its products with the tile are done. Each has waited for full[s] of
//                  the same round before, even for a tile that it goes past: so nobody is ever ahead by a phase
//   item_empty[i]  an arrival of each consumers' warp, when it has the item's rows in registers; phases are items / kItems
//   announced[i]   1 arrival, of the producer's first warp, at the end of an item, when it has said which one comes; phases are
//                  items / kNumbers. It is written over four items later. That item began when consumers had begun the one two
//                  before it, and so when all producer's warps had: they have read the number
// Full of turn t − 2 is told before the producer waits for anything of turn t. It waits for empty of turn t − kStages, for
// which consumers need no tile after t − kStages + 1 ≤ t − 2; and at an item's first turn for the start of the item but one
// before, which needs no tile after t − 2. So nobody waits for what waits for him.

inline constexpr int kItems = 2;    // whose rows may be in shared memory
inline constexpr int kNumbers = 4;  // of items

// Where a turn stands in the ring.
template <int kStages>
struct Turn {
  int stage = 0;
  unsigned parity = 0;  // of the round

  __device__ __forceinline__ void Advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1U;
  }
};

// Shared memory: tiles in pairs (queries and dO, or keys and values), an item's rows (of kTensors tensors), and floats that go
// with a tile and with an item.
template <typename Tuned, int kTensors, int kTileFloats, int kItemFloats>
struct Memory {
  static constexpr int kStages = Tuned::kStages;
  static constexpr int kConsumerWarps = Tuned::kConsumers * (kWarpgroup / kWarp);
  static constexpr int kItemElements = kTensors * Tuned::kRows * kHopperWidth;
  static constexpr int kProducerWarps = kWarpgroup / kWarp;
  static constexpr int kBarriers = 2 * kStages + kItems + kNumbers;
  static constexpr int kBytes =
      kTileAlignment +
      (kStages * 2 * kTileElements + kItems * kItemElements) * static_cast<int>(sizeof(Bf16)) +
      (kStages * kTileFloats + kItems * kItemFloats) * static_cast<int>(sizeof(float)) +
      kBarriers * static_cast<int>(sizeof(uint64_t)) + kItems * static_cast<int>(sizeof(Item)) +
      kNumbers * static_cast<int>(sizeof(unsigned));
  static_assert(kStages >= 3 && kTileFloats % 4 == 0 && kItemFloats % 4 == 0);

  Bf16* tiles = reinterpret_cast<Bf16*>(AlignedShared());

  __device__ __forceinline__ Bf16* Tile(int stage) const {
    return tiles + stage * (2 * kTileElements);
  }
  __device__ __forceinline__ Bf16* Rows(int slot) const {
    return Tile(kStages) + slot * kItemElements;
  }
  __device__ __forceinline__ float* TileTerms(int stage) const {
    return reinterpret_cast<float*>(Rows(kItems)) + stage * kTileFloats;
  }
  __device__ __forceinline__ float* ItemTerms(int slot) const {
    return TileTerms(kStages) + slot * kItemFloats;
  }
  __device__ __forceinline__ uint64_t* Full(int stage) const {
    return reinterpret_cast<uint64_t*>(ItemTerms(kItems)) + stage;
  }
  __device__ __forceinline__ uint64_t* Empty(int stage) const { return Full(kStages) + stage; }
  __device__ __forceinline__ uint64_t* ItemEmpty(int slot) const { return Empty(kStages) + slot; }
  __device__ __forceinline__ uint64_t* Announced(int place) const {
    return ItemEmpty(kItems) + place;
  }
  __device__ __forceinline__ Item& ItemAt(int slot) const {
    return reinterpret_cast<Item*>(Announced(kNumbers))[slot];
  }
  __device__ __forceinline__ unsigned& NumberAt(int place) const {
    return reinterpret_cast<unsigned*>(&ItemAt(kItems))[place];
  }

  // By all threads of the block.
  __device__ __forceinline__ void InitBarriers() const {
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < kStages; ++stage) {
        InitBarrier(Full(stage), kProducerWarps);
        InitBarrier(Empty(stage), kConsumerWarps);
      }
      for (int slot = 0; slot < kItems; ++slot) InitBarrier(ItemEmpty(slot), kConsumerWarps);
      for (int place = 0; place < kNumbers; ++place) InitBarrier(Announced(place), 1);
    }
    __syncthreads();
  }
};

// By all lanes of a warp, whose lane 0 arrives for them.
__device__ __forceinline__ void WarpArrivesAt(uint64_t* barrier) {
  __syncwarp();
  if (Lane() == 0) ArriveAt(barrier);
}

// ---- the producer ----

// Begins to copy 64 rows of a pair's keys and their values.
template <typename Memory>
__device__ __forceinline__ void BeginKeyTile(const Memory& memory, int stage, const Shape& shape,
                                             const Bf16* qkv, int pair, int row) {
  const Copier copier(shape.qkv_stride());
  const Bf16* keys = qkv + shape.QueryOffset(pair) + shape.out_stride() + row * shape.qkv_stride();
  Bf16* tile = memory.Tile(stage);
  copier.Begin(tile, keys, shape.length - row);
  copier.Begin(tile + kTileElements, keys + shape.out_stride(), shape.length - row);
}

// Waits for this warp's copies of all turns but the latest kPending; consumers learn that its part of the last of them, which has
// this stage, is there.
template <int kPending, typename Memory>
__device__ __forceinline__ void Publish(const Memory& memory, int stage) {
  WaitForCopies<kPending>();
  PublishToProducts();
  WarpArrivesAt(memory.Full(stage));
}

// The number of the item after that of `round`, which the producer's first warp has asked for and now tells the others.
template <typename Memory>
__device__ __forceinline__ unsigned NextNumber(const Memory& memory, bool first_warp,
                                               unsigned asked_for, unsigned round) {
  const int place = static_cast<int>(round % kNumbers);
  if (first_warp) {
    if (Lane() == 0) memory.NumberAt(place) = asked_for;
    WarpArrivesAt(memory.Announced(place));
    return ShuffleFrom(asked_for, 0);
  }
  WaitForPhase(memory.Announced(place), round / kNumbers % 2);
  return memory.NumberAt(place);
}

// Copies a producer's warp's part of all that the block's consumers need. `copies`: of which kernel.
template <typename Copies>
__device__ __forceinline__ void Produce(const Copies& copies, const Schedule& schedule) {
  using Items = typename Copies::Items;
  constexpr int kStages = Copies::Memory::kStages;
  const auto& memory = copies.memory;
  const int length = copies.operands.shape.length;
  auto before = [](int stage, int turns) { return (stage + kStages - turns) % kStages; };
  Turn<kStages> turn;
  unsigned begun = 0;  // turns
  const bool first_warp = Uniform(ProducerThread() / kWarp) == 0;
  const bool leads = first_warp && Lane() == 0;
  unsigned number = schedule.First();
  for (unsigned round = 0;; ++round) {
    const Item item = Items::Find(schedule.order, length, number);
    const unsigned next = leads ? schedule.Next() : 0;  // early: it takes a while to come
    const int slot = static_cast<int>(round % kItems);
    for (int i = 0; i < item.tiles; ++i) {
      if (begun++ >= 2) Publish<1>(memory, before(turn.stage, 2));
      if (i == 0) {
        WaitForPhase(memory.ItemEmpty(slot), round / kItems % 2 ^ 1U);
        if (leads) memory.ItemAt(slot) = item;
        if (item.pair >= 0) copies.BeginItem(slot, item);
      }
      WaitForPhase(memory.Empty(turn.stage), turn.parity ^ 1U);
      if (item.pair >= 0) copies.BeginTile(turn.stage, item, Items::RowOf(item, i));
      CommitCopies();
      turn.Advance();
    }
    if (item.pair < 0) break;
    number = NextNumber(memory, first_warp, next, round);
  }
  if (begun >= 2) Publish<1>(memory, before(turn.stage, 2));
  Publish<0>(memory, before(turn.stage, 1));
}

// ---- the consumers ----

// A consumer's way through the block's turns, of items and of tiles.
template <typename Memory>
class Consumer {
 public:
  using Turn = attention::Turn<Memory::kStages>;

  __device__ __forceinline__ explicit Consumer(const Memory& memory) : memory_(memory) {}

  // Among the block's consumers.
  __device__ __forceinline__ static int number() {
    return Uniform(static_cast<int>(threadIdx.x) / kWarpgroup);
  }
  __device__ __forceinline__ int stage() const { return turn_.stage; }
  __device__ __forceinline__ const Bf16* tile() const { return memory_.Tile(turn_.stage); }
  __device__ __forceinline__ int slot() const { return slot_; }
  __device__ __forceinline__ const Bf16* rows() const { return memory_.Rows(slot_); }

  // Until the next item's rows and first tile are there; false if there is none.
  __device__ __forceinline__ bool WaitForItem() {
    Wait();
    return memory_.ItemAt(slot_).pair >= 0;
  }
  // Of its rows and terms nothing is read any more.
  __device__ __forceinline__ Item TakeItem() {
    Item item = memory_.ItemAt(slot_);
    item = {.pair = Uniform(item.pair), .own = Uniform(item.own), .tiles = Uniform(item.tiles)};
    WarpArrivesAt(memory_.ItemEmpty(slot_));
    slot_ = (slot_ + 1) % kItems;
    return item;
  }
  // Goes past `count` of the item's tiles, if there are so many, and returns how many are left.
  __device__ __forceinline__ int Skip(const Item& item, int count) {
    for (int i = 0; i < min(count, item.tiles); ++i) Release(Advance());
    return item.tiles - count;
  }
  // To the next tile, when it is there. Returns the turn before, which is to be released.
  __device__ __forceinline__ Turn Advance() {
    const Turn before = turn_;
    turn_.Advance();
    turn_.stage = Uniform(turn_.stage);
    Wait();
    return before;
  }
  // Products with this turn's tile are done.
  __device__ __forceinline__ void Release(const Turn& turn) const {
    WarpArrivesAt(memory_.Empty(turn.stage));
  }
  // Releases the item's last tile.
  __device__ __forceinline__ void FinishItem() {
    Release(turn_);
    turn_.Advance();
  }

 private:
  __device__ __forceinline__ void Wait() const {
    WaitForPhase(memory_.Full(turn_.stage), turn_.parity);
  }

  const Memory& memory_;
  Turn turn_;
  int slot_ = 0;
};

// ---- both ----

// All that a block does, where it can. `copies`: of which kernel; consume(): what its consumers do.
template <typename Tuned, typename Copies, typename Consume>
__device__ __forceinline__ void RunPipeline(const Copies& copies, const Schedule& schedule,
                                            const Consume& consume) {
  if constexpr (!kWarpgroupProducts) {
    Trap();
    return;
  }
  copies.memory.InitBarriers();
  const int warp = Uniform(static_cast<int>(threadIdx.x) / kWarp);
  constexpr int kProducer = Tuned::kConsumers * (kWarpgroup / kWarp);
  if (warp < kProducer) {
    TakeRegisters<Tuned::kConsumerRegisters>();
    consume();
  } else {
    GiveRegisters<Tuned::kProducerRegisters>();
    Produce(copies, schedule);
  }
}

// ---- launches ----

template <typename Tuned, typename... Parameters, typename Operands>
void LaunchItems(Context& context, void (*kernel)(Parameters...), int shared_bytes,
                 const TileOrder& order, const Operands& operands) {
  struct Taken {
    CudaScratch memory;
  };
  auto* taken = context.Cache<Taken>().memory.template Take<unsigned>(1);
  FillBytes(context, taken, 0, sizeof(*taken));
  const auto resident = static_cast<unsigned>(context.cuda().multiprocessors);
  const unsigned blocks = std::min(order.blocks(), resident);
  AllowSharedBytes(kernel, static_cast<size_t>(shared_bytes));
  Launch(kernel, blocks, Tuned::kThreads, static_cast<size_t>(shared_bytes), context.cuda().stream,
         operands, Schedule{.order = order, .taken = taken});
}

}  // namespace entrain::cuda::attention

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_WARPGROUP_PIPELINE_CUDA_CUH_
