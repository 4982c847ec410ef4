// What products of attention by warpgroups on Hopper's tensor cores are made of, for head width 64: swizzled tiles in shared memory,
// fragments, and products of them.
//
// A warpgroup owns 64 rows of a pair (keys or queries), kept in registers as left operands; the tiles of 64 rows that it goes
// over are right operands.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_WARPGROUP_TILE_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_WARPGROUP_TILE_CUDA_CUH_

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

// The thread's number among those of the producer, the block's last warpgroup.
__device__ __forceinline__ int ProducerThread() { return ThreadReadAnew() % kWarpgroup; }

// A producer's thread's part in copying rows to tiles: of each pass over 16 rows, a chunk.
class Copier {
 public:
  __device__ __forceinline__ explicit Copier(int64_t stride)
      : stride_(stride),
        row_(ProducerThread() / kRowChunks),
        column_(ProducerThread() % kRowChunks) {}

  // Begins to copy a tile's rows, `stride` elements apart; zeros from row `valid` on.
  __device__ __forceinline__ void Begin(Bf16* tile, const Bf16* rows, int valid) const {
    if (valid >= kTileRows) {
      BeginPasses<true>(tile, rows, valid);
    } else {
      BeginPasses<false>(tile, rows, valid);
    }
  }

 private:
  static constexpr int kRowChunks = kHopperWidth / kChunk;
  static constexpr int kPassRows = kWarpgroup / kRowChunks;
  static_assert(kPassRows % 8 == 0, "every pass has the same places");

  template <bool kWhole>
  __device__ __forceinline__ void BeginPasses(Bf16* tile, const Bf16* rows, int valid) const {
    const Bf16* from = rows + row_ * stride_ + column_ * kChunk;
    Bf16* to = tile + row_ * kHopperWidth + (column_ ^ row_ % 8) * kChunk;
#pragma unroll
    for (int row = 0; row < kTileRows; row += kPassRows) {
      CopyAsync16(to + row * kHopperWidth, from, kWhole || row_ + row < valid);
      from += kPassRows * stride_;
    }
  }

  int64_t stride_;
  int row_;
  int column_;
};

}  // namespace entrain::cuda::attention

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_WARPGROUP_TILE_CUDA_CUH_
