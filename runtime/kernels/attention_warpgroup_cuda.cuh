// What attention on Hopper's tensor cores is made of, for head width 64: swizzled tiles, products of them by warpgroups, and the
// way of a block through its work.
//
// A warpgroup owns 64 rows of a pair (keys or queries), kept in registers as left operands; the tiles of 64 rows that it goes
// over are right operands. Two warpgroups share a tile, or copying tiles would be the limit. A block stays on its
// multiprocessor and takes one item after another (64 rows for each warpgroup): the first tiles of an item are copied while
// the one before is worked on, so that no item waits for memory at its start.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_WARPGROUP_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_WARPGROUP_CUDA_CUH_

#include <algorithm>

#include "runtime/kernels/attention_tile_cuda.cuh"
#include "runtime/kernels/cuda_warpgroup.cuh"

namespace entrain::cuda::attention {

inline constexpr int kHopperWidth = 64;  // of a head: rows of 128 bytes, as wide as the swizzle
inline constexpr int kTileRows = 64;
inline constexpr int kTileElements = kTileRows * kHopperWidth;
inline constexpr int kTileAlignment = 1024;  // bytes: eight rows, in which the swizzle repeats

using Fragments = uint32_t[kHopperWidth / 16][4];  // 64 × 64 of a warpgroup, as a left operand
using Sums = float[1][kHopperWidth / 8][4];        // 64 × 64 of a warpgroup

// The same in all lanes, which the compiler then knows, and may keep in a register of the warp's.
__device__ __forceinline__ int Uniform(int value) { return ShuffleFrom(value, 0); }

// ---- tiles ----
//
// Chunk c (16 bytes) of row r lies at place c ^ (r % 8) of the row: so the eight rows that a warp or a product reads at a time
// lie in different banks.

__device__ __forceinline__ char* AlignedShared() {
  char* shared = DynamicShared();
  return shared + (0U - SharedAddress(shared)) % kTileAlignment;
}

// Descriptor of a tile as a right operand. Rows follow each other, eight of them are 1024 bytes; whether rows are the summed
// index or columns, the distance between groups of eight is the only one that 64 × 16 elements need.
__device__ __forceinline__ uint64_t DescribeTile(const Bf16* tile) {
  constexpr uint64_t kGroup = kTileAlignment / 16;
  constexpr uint64_t kSwizzled128 = 1;
  constexpr uint64_t kLayout = kGroup << 16 | kGroup << 32 | kSwizzled128 << 62;
  return kLayout | (SharedAddress(tile) & 0x3ffffU) >> 4;
}

// Begins sums = a·tileᵀ.
__device__ __forceinline__ void BeginTransposed(Sums& sums, const Fragments& a, const Bf16* tile) {
  constexpr int kStep = 16 * sizeof(Bf16) / 16;  // 16 dims further
  const uint64_t b = DescribeTile(tile);
  BeginProduct<false, false>(sums[0], a[0], b);
#pragma unroll
  for (int k = 1; k < kHopperWidth / 16; ++k) {
    BeginProduct<false, true>(sums[0], a[k], b + k * kStep);
  }
}

// Begins sums += a·tile.
__device__ __forceinline__ void BeginSum(Sums& sums, const Fragments& a, const Bf16* tile) {
  constexpr int kStep = 16 * kHopperWidth * sizeof(Bf16) / 16;  // 16 rows further
  const uint64_t b = DescribeTile(tile);
#pragma unroll
  for (int k = 0; k < kTileRows / 16; ++k) BeginProduct<true, true>(sums[0], a[k], b + k * kStep);
}

__device__ __forceinline__ int Lane() { return ThreadReadAnew() % kWarp; }
// The first of the warp's 16 rows among those of an item.
__device__ __forceinline__ int WarpRow() { return ThreadReadAnew() / kWarp * 16; }

// The warp's 16 rows of those of an item, as left operands.
__device__ __forceinline__ void LoadRows(Fragments& a, const Bf16* rows) {
  const int thread = ThreadReadAnew();
  const int lane = thread % kWarp;
  const Bf16* row = rows + (thread / kWarp * 16 + lane % 16) * kHopperWidth;
#pragma unroll
  for (int k = 0; k < kHopperWidth / 16; ++k) {
    LoadMatrices(a[k], row + ((2 * k + lane / 16) ^ lane % 8) * kChunk);
  }
}

// Sums, rounded to bf16, as a left operand.
__device__ __forceinline__ void Pack(Fragments& a, const Sums& sums) {
#pragma unroll
  for (int k = 0; k < kTileRows / 16; ++k) PackRows(a[k], sums[0][2 * k], sums[0][2 * k + 1]);
}

// This thread's part in copying rows to tiles: of each pass over a few rows, one chunk. For a moment: nothing of it is kept.
template <int kThreads>
class Copier {
 public:
  __device__ __forceinline__ Copier() {
    const int thread = ThreadReadAnew();
    row_ = thread / kRowChunks;
    column_ = thread % kRowChunks;
  }

  // Begins to copy kRows rows, `stride` elements apart; zeros from row `valid` on.
  template <int kRows>
  __device__ __forceinline__ void Begin(Bf16* tile, const Bf16* rows, int stride, int valid) const {
    static_assert(kRows % kPassRows == 0);
    const Bf16* from = rows + (row_ * stride + column_ * kChunk);
    Bf16* to = tile + row_ * kHopperWidth + (column_ ^ row_ % 8) * kChunk;
#pragma unroll
    for (int row = 0; row < kRows; row += kPassRows) {
      CopyAsync16(to + row * kHopperWidth, from + row * stride, row_ + row < valid);
    }
  }

 private:
  static constexpr int kRowChunks = kHopperWidth / kChunk;
  static constexpr int kPassRows = kThreads / kRowChunks;
  static_assert(kPassRows % 8 == 0, "a row of every pass has the same places");

  int row_;
  int column_;
};

// ---- a block's way through its work ----

// Tiles in shared memory: sums are made of one, scores of the next, the one after is there and another on its way. So one
// barrier a tile is enough, which comes when products have just been begun.
inline constexpr int kStages = 4;
inline constexpr int kItems = 2;  // whose rows may be in shared memory

// A tile that the block goes over, for the rows that it owns.
struct alignas(16) Step {
  int round;           // number of the item among the block's
  int pair;            // or −1 after the last item
  int own;             // the first of the item's rows
  int other;           // the first of the tile's rows
  int64_t qkv_offset;  // of the pair's q
  int64_t out_offset;
};

// Items of kRows keys, each over the queries that see one of them, or of kRows queries, each over the keys that they see.
template <bool kOwnKeys, int kRows>
class Way {
 public:
  __device__ __forceinline__ Way(const TileOrder& order, const Shape& shape)
      : order_(order), shape_(shape) {}

  __device__ __forceinline__ Step First() const { return FirstOf(0); }
  __device__ __forceinline__ Step After(Step step) const {
    if (step.pair < 0) return step;
    step.other += kTileRows;
    if (step.other < (kOwnKeys ? shape_.length : min(step.own + kRows, shape_.length))) return step;
    return FirstOf(step.round + 1);
  }
  __device__ __forceinline__ static bool IsFirst(const Step& step) {
    return step.other == (kOwnKeys ? step.own : 0);
  }

 private:
  // Items are sorted by their work, falling: every other round blocks take them in reverse, so that all have as much to do.
  __device__ __forceinline__ Step FirstOf(int round) const {
    const unsigned place = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
    const unsigned item = static_cast<unsigned>(round) * gridDim.x + place;
    Step step = {.round = round, .pair = -1};
    if (item >= order_.blocks()) return step;
    int rank;
    order_.Find(item, rank, step.pair);
    step.own = (kOwnKeys ? rank : order_.tiles - 1 - rank) * kRows;
    step.other = kOwnKeys ? step.own : 0;
    step.qkv_offset = shape_.QueryOffset(step.pair);
    step.out_offset = shape_.OutOffset(step.pair);
    return step;
  }

  const TileOrder& order_;
  const Shape& shape_;
};

// Where number `turn` lies in memory for kSlots.
template <int kSlots>
__device__ __forceinline__ int Slot(int turn) {
  return static_cast<int>(static_cast<unsigned>(turn) % kSlots);
}

// Shared memory: tiles in pairs (queries and dO, or keys and values), an item's rows (kItemRows, of one tensor or two), and
// floats that go with a tile and with an item.
template <int kItemRows, int kTileFloats, int kItemFloats>
struct Memory {
  static constexpr int kItemElements = kItemRows * kHopperWidth;
  static constexpr int kBytes =
      kTileAlignment +
      (kStages * 2 * kTileElements + kItems * kItemElements) * static_cast<int>(sizeof(Bf16)) +
      (kStages * kTileFloats + kItems * kItemFloats) * static_cast<int>(sizeof(float)) +
      kStages * static_cast<int>(sizeof(Step));
  static_assert(kTileFloats % 4 == 0 && kItemFloats % 4 == 0);

  Bf16* tiles = reinterpret_cast<Bf16*>(AlignedShared());

  __device__ __forceinline__ Bf16* Tile(int turn) const {
    return tiles + Slot<kStages>(turn) * (2 * kTileElements);
  }
  __device__ __forceinline__ Bf16* Item(int round) const {
    return tiles + kStages * 2 * kTileElements + Slot<kItems>(round) * kItemElements;
  }
  __device__ __forceinline__ float* TileTerms(int turn) const {
    return reinterpret_cast<float*>(Item(0) + kItems * kItemElements) +
           Slot<kStages>(turn) * kTileFloats;
  }
  __device__ __forceinline__ float* ItemTerms(int round) const {
    return TileTerms(0) + kStages * kTileFloats + Slot<kItems>(round) * kItemFloats;
  }
  __device__ __forceinline__ Step& At(int turn) const {
    return reinterpret_cast<Step*>(ItemTerms(0) + kItems * kItemFloats)[Slot<kStages>(turn)];
  }
};

// Begins to copy tile number `turn` of the block's way, the first of an item with its rows. `copies`: of which kernel.
template <typename Copies>
__device__ __forceinline__ void BeginTurn(const Copies& copies, int turn, const Step& step) {
  if (ThreadReadAnew() == 0) copies.memory.At(turn) = step;
  if (step.pair >= 0) {
    if (Copies::Way::IsFirst(step)) copies.BeginItem(step);
    copies.BeginTile(turn, step);
  }
  CommitCopies();
}

// The first two tiles of the way. They are there when it returns.
template <typename Copies>
__device__ __forceinline__ void BeginWay(const Copies& copies) {
  const Step first = copies.way.First();
  BeginTurn(copies, 0, first);
  BeginTurn(copies, 1, copies.way.After(first));
  WaitForCopies<0>();
  PublishToProducts();
  __syncthreads();
}

// Once in a turn, when nobody reads tile number turn − 1 any more: tile number turn + 2 is there for all, and one more begun.
template <typename Copies>
__device__ __forceinline__ void Proceed(const Copies& copies, int turn) {
  WaitForCopies<0>();
  PublishToProducts();
  __syncthreads();
  BeginTurn(copies, turn + kStages - 1, copies.way.After(copies.memory.At(turn + kStages - 2)));
}

// ---- launches ----

// Tuned: kBlocks of a multiprocessor, and whether one of them kStays there and takes item after item.
template <typename Tuned, typename... Parameters, typename... Arguments>
void LaunchItems(Context& context, void (*kernel)(Parameters...), int shared_bytes,
                 const TileOrder& order, const Arguments&... arguments) {
  const auto resident = static_cast<unsigned>(context.cuda().multiprocessors * Tuned::kBlocks);
  const unsigned blocks = Tuned::kStays ? std::min(order.blocks(), resident) : order.blocks();
  AllowSharedBytes(kernel, static_cast<size_t>(shared_bytes));
  Launch(kernel, blocks, Tuned::kWarpgroups * kWarpgroup, static_cast<size_t>(shared_bytes),
         context.cuda().stream, arguments...);
}

}  // namespace entrain::cuda::attention

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_WARPGROUP_CUDA_CUH_
