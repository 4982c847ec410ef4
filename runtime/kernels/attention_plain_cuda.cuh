// Tiles of 32 fp32 rows in shared memory for attention in plain arithmetic: a warp owns four rows of a block's tile, lane l
// column l of what they meet. Sums are kept short, as on the CPU: dots in pieces of 16 dims, weighted rows a tile at a
// time.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_PLAIN_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_PLAIN_CUDA_CUH_

#include "runtime/kernels/attention_cuda.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"

namespace entrain::cuda::attention::plain {

inline constexpr int kTile = 32;
inline constexpr int kWarpRows = 4;
inline constexpr int kWarps = kTile / kWarpRows;
inline constexpr int kThreads = kWarps * kWarp;
inline constexpr int kPiece = 16;
inline constexpr int kWeightFloats = kWarps * kTile * kWarpRows;

// Floats between rows of a tile: odd, so that a column lies in 32 banks.
__host__ __device__ constexpr int Stride(int width) { return width | 1; }

// Of `tiles` tiles, `weights` sets of weights, and as much as the last row of the last tile may be read beyond its end.
inline int SharedBytes(int width, int tiles, int weights) {
  const int floats = weights * kWeightFloats + tiles * kTile * Stride(width) + kMaxWidth;
  return floats * static_cast<int>(sizeof(float));
}

// Reads 32 rows, `stride` elements apart; zeros from row `valid` on.
template <typename T>
__device__ void LoadTile(float* tile, const T* from, int64_t stride, int width, int valid) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int row = static_cast<int>(threadIdx.x) / kWarp; row < kTile; row += kWarps) {
    for (int d = lane; d < width; d += kWarp) {
      tile[row * Stride(width) + d] = row < valid ? ToFloat(from[row * stride + d]) : 0.0F;
    }
  }
}

// dots[r] = rows[r] · columns[lane].
__device__ __forceinline__ void Dots(float (&dots)[kWarpRows], const float* rows,
                                     const float* columns, int width) {
  const int stride = Stride(width);
  const float* column = columns + static_cast<int>(threadIdx.x) % kWarp * stride;
#pragma unroll
  for (float& dot : dots) dot = 0.0F;
  for (int begin = 0; begin < width; begin += kPiece) {
    float piece[kWarpRows] = {};
    const int end = min(begin + kPiece, width);
#pragma unroll 4
    for (int d = begin; d < end; ++d) {
      const float factor = column[d];
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r) {
        piece[r] = fmaf(rows[r * stride + d], factor, piece[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < kWarpRows; ++r) dots[r] += piece[r];
  }
}

// sums[r][c] += Σ_j weights[j][r] · tile[j][lane + 32·c] over the first `terms` rows of the tile; lanes beyond the width
// sum what nobody reads. Each lane's weights come in as `mine`; `shared`: the warp's part of the weights.
template <int kColumns>
__device__ __forceinline__ void AddRows(float (&sums)[kWarpRows][kColumns],
                                        const float (&mine)[kWarpRows], float* shared,
                                        const float* tile, int width, int terms) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  __syncwarp();
  *reinterpret_cast<float4*>(shared + lane * kWarpRows) =
      make_float4(mine[0], mine[1], mine[2], mine[3]);
  __syncwarp();
  float added[kWarpRows][kColumns] = {};
  for (int j = 0; j < terms; ++j) {
    const float4 weights = *reinterpret_cast<const float4*>(shared + j * kWarpRows);
    const float weight[kWarpRows] = {weights.x, weights.y, weights.z, weights.w};
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const float value = tile[j * Stride(width) + lane + c * kWarp];
#pragma unroll
      for (int r = 0; r < kWarpRows; ++r) added[r][c] = fmaf(weight[r], value, added[r][c]);
    }
  }
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sums[r][c] += added[r][c];
  }
}

template <int kColumns>
__device__ __forceinline__ void ScaleRow(float (&row)[kColumns], float factor) {
#pragma unroll
  for (float& value : row) value *= factor;
}

// Writes the warp's rows, `stride` elements apart; none from row `valid` on.
template <typename T, int kColumns>
__device__ __forceinline__ void StoreRows(const float (&sums)[kWarpRows][kColumns], T* to,
                                          int64_t stride, int width, int valid) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < kWarpRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int d = lane + c * kWarp;
      if (r < valid && d < width) to[r * stride + d] = FromFloat<T>(sums[r][c]);
    }
  }
}

}  // namespace entrain::cuda::attention::plain

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_PLAIN_CUDA_CUH_
