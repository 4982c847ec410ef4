// Tiles of bf16 in shared memory and products of them on tensor cores, by one warp.
//
// A tile is rows of kWidth elements (head dims). Rows are padded to an odd number of 16-byte chunks, so that the eight rows
// that a phase of LoadMatrices reads lie in eight different groups of banks, and every address is a lane's own plus a
// constant. Fragments: see cuda_intrinsics.cuh. Lane l has g = l / 4, p = 2·(l % 4).
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_TILE_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_TILE_CUDA_CUH_

#include "runtime/kernels/attention_cuda.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_intrinsics.cuh"

namespace entrain::cuda::attention {

inline constexpr int kChunk = 8;  // elements in 16 bytes

// Elements between rows of a tile.
template <int kWidth>
inline constexpr int kTileStride = (kWidth / kChunk | 1) * kChunk;

template <int kWidth>
inline constexpr int TileBytes(int rows) {
  return rows * kTileStride<kWidth> * static_cast<int>(sizeof(Bf16));
}

// This thread's part in copying tiles whose rows are `stride` elements apart: of each pass over a few rows, one chunk.
template <int kWidth, int kThreads>
class TileCopier {
 public:
  __device__ __forceinline__ TileCopier(const Bf16* from, int stride)
      : from_(from), row_(static_cast<int>(threadIdx.x) / kRowChunks), stride_(stride) {
    const int column = static_cast<int>(threadIdx.x) % kRowChunks * kChunk;
    offset_ = row_ * stride + column;
    shared_ = row_ * kTileStride<kWidth> + column;
  }

  // Begins to copy kRows rows from `offset` elements after the start; zeros from row `valid` on.
  template <int kRows>
  __device__ __forceinline__ void Begin(Bf16* tile, int64_t offset, int valid) const {
    if (kThreads % kRowChunks != 0 && row_ >= kPassRows) return;
    const Bf16* from = from_ + offset + offset_;
    Bf16* to = tile + shared_;
#pragma unroll
    for (int row = 0; row < kRows; row += kPassRows) {
      if (kRows % kPassRows != 0 && row_ + row >= kRows) return;
      CopyAsync16(to + row * kTileStride<kWidth>, from + row * stride_, row_ + row < valid);
    }
  }

 private:
  static constexpr int kRowChunks = kWidth / kChunk;
  static constexpr int kPassRows = kThreads / kRowChunks;

  const Bf16* from_;  // of the block; what is the thread's own is 32 bits wide
  int row_;
  int stride_;
  int offset_;
  int shared_;
};

// Begins to copy kRows keys of a pair, from position `first` on, and their values. copier: from the pair's first query on.
template <int kRows, int kWidth, int kThreads>
__device__ __forceinline__ void BeginKeys(const TileCopier<kWidth, kThreads>& copier,
                                          const Shape& shape, int first, Bf16* keys, Bf16* values) {
  const int64_t rows = shape.out_stride() + first * shape.qkv_stride();
  copier.template Begin<kRows>(keys, rows, shape.length - first);
  copier.template Begin<kRows>(values, rows + shape.out_stride(), shape.length - first);
}

// Where this lane points LoadMatrices for a 16 × 16 corner of a tile. The four 8 × 8 matrices in the order (rows 0 .. 7,
// dims 0 .. 7), (8 .., 0 ..), (0 .., 8 ..), (8 .., 8 ..): fragment a of these rows, or transposed, two fragments b for a
// sum over rows.
template <int kWidth>
__device__ __forceinline__ int RowsFirst() {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  return (lane & 15) * kTileStride<kWidth> + (lane >> 4) * kChunk;
}
// The same with the second and the third exchanged: two fragments b for a sum over dims, or transposed, fragment a of dims.
template <int kWidth>
__device__ __forceinline__ int DimsFirst() {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  return ((lane & 7) + ((lane >> 4) << 3)) * kTileStride<kWidth> + (lane >> 3 & 1) * kChunk;
}

// Fragments a of 16·kRowTiles rows, kept in registers.
template <int kWidth, int kRowTiles>
struct KeptRows {
  uint32_t fragments[kRowTiles][kWidth / 16][4];

  __device__ __forceinline__ explicit KeptRows(const Bf16* rows) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int k = 0; k < kWidth / 16; ++k) {
        LoadMatrices(fragments[m][k],
                     rows + m * 16 * kTileStride<kWidth> + k * 16 + RowsFirst<kWidth>());
      }
    }
  }
  __device__ __forceinline__ void Get(int m, int k, uint32_t (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = fragments[m][k][i];
  }
};

// The same, read from shared memory each time.
template <int kWidth, int kRowTiles>
struct SharedRows {
  const Bf16* rows;

  __device__ __forceinline__ explicit SharedRows(const Bf16* first)
      : rows(first + RowsFirst<kWidth>()) {}
  __device__ __forceinline__ void Get(int m, int k, uint32_t (&a)[4]) const {
    LoadMatrices(a, rows + m * 16 * kTileStride<kWidth> + k * 16);
  }
};

// c = a·bᵀ for rows `a` of the warp and kColumns rows of the tile at b: c[m][n] is 16 × 8.
template <int kWidth, int kRowTiles, int kColumns, typename Rows>
__device__ __forceinline__ void Scores(float (&c)[kRowTiles][kColumns / 8][4], const Rows& a,
                                       const Bf16* b) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) c[m][n][i] = 0.0F;
    }
  }
#pragma unroll
  for (int k = 0; k < kWidth / 16; ++k) {
    uint32_t row[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) a.Get(m, k, row[m]);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t column[4];
      LoadMatrices(column, b + n * 16 * kTileStride<kWidth> + k * 16 + DimsFirst<kWidth>());
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        MultiplyAdd(c[m][2 * n], row[m], {column[0], column[1]});
        MultiplyAdd(c[m][2 * n + 1], row[m], {column[2], column[3]});
      }
    }
  }
}

// Scores of keys after the query become kMasked. ahead: the first query less the first key. Rows are queries and columns
// keys, or, kTransposed, the other way round.
template <bool kTransposed, int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void MaskScores(float (&scores)[kRowTiles][kColumnTiles][4], int ahead,
                                           int lane = static_cast<int>(threadIdx.x) % kWarp) {
  // The lane's first row less its first column; what is later than what.
  const int first = lane / 4 - lane % 4 * 2 + (kTransposed ? -ahead : ahead);
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row_ahead = first + 16 * m + i / 2 * 8 - (8 * n + i % 2);
        if (kTransposed ? row_ahead > 0 : row_ahead < 0) scores[m][n][i] = kMasked;
      }
    }
  }
}

// Two neighbouring 16 × 8 fragments c as one 16 × 16 fragment a, rounded to bf16.
__device__ __forceinline__ void PackRows(uint32_t (&a)[4], const float (&left)[4],
                                         const float (&right)[4]) {
  a[0] = PackBf16(left[0], left[1]);
  a[1] = PackBf16(left[2], left[3]);
  a[2] = PackBf16(right[0], right[1]);
  a[3] = PackBf16(right[2], right[3]);
}

// sums += a·b, over 16 rows of the tile at b.
template <int kWidth, int kRowTiles>
__device__ __forceinline__ void AddFragments(float (&sums)[kRowTiles][kWidth / 8][4],
                                             const uint32_t (&a)[kRowTiles][4], const Bf16* b) {
#pragma unroll
  for (int n = 0; n < kWidth / 16; ++n) {
    uint32_t dims[4];
    LoadMatricesTransposed(dims, b + n * 16 + RowsFirst<kWidth>());
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      MultiplyAdd(sums[m][2 * n], a[m], {dims[0], dims[1]});
      MultiplyAdd(sums[m][2 * n + 1], a[m], {dims[2], dims[3]});
    }
  }
}

// sums += weights·b, over kTerms rows of the tile at b; weights rounded to bf16.
template <int kWidth, int kRowTiles, int kTerms>
__device__ __forceinline__ void AddWeighted(float (&sums)[kRowTiles][kWidth / 8][4],
                                            const float (&weights)[kRowTiles][kTerms / 8][4],
                                            const Bf16* b) {
#pragma unroll
  for (int k = 0; k < kTerms / 16; ++k) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) PackRows(a[m], weights[m][2 * k], weights[m][2 * k + 1]);
    AddFragments<kWidth, kRowTiles>(sums, a, b + k * 16 * kTileStride<kWidth>);
  }
}

template <int kWidth, int kRowTiles>
__device__ __forceinline__ void SetZero(float (&sums)[kRowTiles][kWidth / 8][4]) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kWidth / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] = 0.0F;
    }
  }
}

// The four lanes that share rows exchange: x[j] of lane 4·i + p becomes x[p] of lane 4·i + j.
__device__ __forceinline__ void TransposeFour(uint32_t (&x)[4]) {
  const int lane = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = (lane & bit) != 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if ((j & bit) != 0) continue;
      const uint32_t other = ShuffleXor(upper ? x[j] : x[j + bit], bit);
      if (upper) {
        x[j] = other;
      } else {
        x[j + bit] = other;
      }
    }
  }
}

// Writes the warp's 16·kRowTiles rows as bf16 to global memory, `stride` elements apart, but none from row `valid` on: 16
// bytes at a time, as long as there are four neighbouring 16 × 8 fragments.
template <int kWidth, int kRowTiles>
__device__ __forceinline__ void StoreRows(const float (&rows)[kRowTiles][kWidth / 8][4], Bf16* to,
                                          int64_t stride, int valid) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = 16 * m + 8 * half + lane / 4;
      Bf16* at = to + row * stride;
      auto two = [&](int n) { return PackBf16(rows[m][n][2 * half], rows[m][n][2 * half + 1]); };
#pragma unroll
      for (int n = 0; n + 4 <= kWidth / 8; n += 4) {
        uint32_t x[4] = {two(n), two(n + 1), two(n + 2), two(n + 3)};
        TransposeFour(x);
        if (row < valid) {
          *reinterpret_cast<uint4*>(at + 8 * (n + lane % 4)) = make_uint4(x[0], x[1], x[2], x[3]);
        }
      }
#pragma unroll
      for (int n = kWidth / 32 * 4; n < kWidth / 8; ++n) {
        if (row < valid) *reinterpret_cast<uint32_t*>(at + 8 * n + lane % 4 * 2) = two(n);
      }
    }
  }
}

// Calls function(std::integral_constant<int, D>) for a head width D that the tensor cores' path takes.
template <typename F>
void DispatchWidth(int width, F&& function) {
  switch (width) {
    case 32:
      return function(std::integral_constant<int, 32>{});
    case 64:
      return function(std::integral_constant<int, 64>{});
    case 80:
      return function(std::integral_constant<int, 80>{});
    case 96:
      return function(std::integral_constant<int, 96>{});
    default:
      CHECK_EQ(width, 128);
      return function(std::integral_constant<int, 128>{});
  }
}

}  // namespace entrain::cuda::attention

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_TILE_CUDA_CUH_
