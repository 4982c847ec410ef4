// Tiles of attention on the CPU: packing, and products of small matrices in registers.
//
// Scores are held transposed, tile[key][query], so that a vector holds one key's scores of
// neighbouring queries: running maxima, sums and every other value of a query are then vectors too,
// and no reduction goes across lanes. All five products of forward and backward are one
// micro-kernel, C[4, n] (+)= A[4, depth] · B[depth, n], whose A is read an element at a time and
// may therefore be row-major or transposed.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_TILE_CPU_H_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_TILE_CPU_H_

#include <algorithm>
#include <cstdint>

#include "runtime/kernels/simd.h"

namespace entrain::cpu::attention {

// Queries, and keys, of a tile: a power of two, a multiple of the vector width and of kRows.
inline constexpr int64_t kBlock = 64;
// Rows of C that the micro-kernel keeps in registers.
inline constexpr int64_t kRows = 4;
// Vectors of such a row: with 32 registers 16 sums, 4 vectors of B and one of A; with 16 registers
// half as many.
inline constexpr int64_t kPanelVectors = simd::kLanes == 16 ? 4 : 2;
// Dims of a head that are summed at a time in a score: halves the error of sharp scores against one sum over 64.
inline constexpr int64_t kDepth = 16;
// Stands for a masked score, before temperature and √D divide it. Finite even then: with -inf, e·x
// would be 0·inf, a NaN. Unrepresentably small as a power of 2.
inline constexpr float kMasked = -1e20F;

constexpr int64_t PaddedWidth(int64_t width) {
  return (width + simd::kLanes - 1) / simd::kLanes * simd::kLanes;
}
// 0, 1, 2, …
inline simd::Float LaneNumbers() {
  simd::Float lanes;
  for (int i = 0; i < simd::kLanes; ++i) lanes[i] = static_cast<float>(i);
  return lanes;
}

// ---- Products. ----

enum class Layout { kRowMajor, kTransposed };

// A load that is made once. Left alone, g++ 12 reads a row of B from memory again for each of the kRows sums, and loads
// become what the products wait for.
inline simd::Float LoadToRegister(const float* from) {
  simd::Float value = simd::Load(from);
#if defined(__x86_64__)
  asm("" : "+v"(value));
#endif
  return value;
}

// C[4, kVectors·lanes] (+)= A·B. Element (r, k) of A lies at a[r·lda + k], transposed at a[k·lda + r]. The product is
// summed from zero and then added to C, so that long sums are made of short ones.
template <Layout kLayout, bool kAdd, int kVectors>
inline void MicroKernel(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t depth,
                        float* c, int64_t ldc) {
  simd::Float sum[kRows][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    simd::Float row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = LoadToRegister(b + k * ldb + v * simd::kLanes);
    for (int r = 0; r < kRows; ++r) {
      const float element = kLayout == Layout::kTransposed ? a[k * lda + r] : a[r * lda + k];
      for (int v = 0; v < kVectors; ++v) sum[r][v] += row[v] * element;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      float* to = c + r * ldc + v * simd::kLanes;
      simd::Store(to, kAdd ? simd::Load(to) + sum[r][v] : sum[r][v]);
    }
  }
}

// The same for any number of vectors, panel after panel.
template <Layout kLayout, bool kAdd>
inline void RowsProduct(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t depth,
                        float* c, int64_t ldc, int64_t vectors) {
  constexpr int64_t kPanel = kPanelVectors * simd::kLanes;
  for (; vectors >= kPanelVectors; vectors -= kPanelVectors, b += kPanel, c += kPanel) {
    MicroKernel<kLayout, kAdd, kPanelVectors>(a, lda, b, ldb, depth, c, ldc);
  }
  if (vectors == 3) MicroKernel<kLayout, kAdd, 3>(a, lda, b, ldb, depth, c, ldc);
  if (vectors == 2) MicroKernel<kLayout, kAdd, 2>(a, lda, b, ldb, depth, c, ldc);
  if (vectors == 1) MicroKernel<kLayout, kAdd, 1>(a, lda, b, ldb, depth, c, ldc);
}

// One block of queries against one block of keys. On the diagonal query i sees keys j ≤ i, and only
// vectors of a tile with such a pair are computed or read.
struct TileShape {
  int64_t queries;  // valid ones, from the block's first
  int64_t keys;
  int64_t padded_width;
  bool diagonal;

  int64_t vectors() const { return (queries + simd::kLanes - 1) / simd::kLanes; }
  // The first vector of queries of which some see `key`.
  int64_t FirstVector(int64_t key) const { return diagonal ? key / simd::kLanes : 0; }
  // Keys that some query of vector v sees.
  int64_t KeysOfVector(int64_t v) const {
    return diagonal ? std::min(keys, (v + 1) * simd::kLanes) : keys;
  }
};

// tile[key][query] = Σ_d keys[key][d] · queries[d][query]; keys are rounded up to kRows.
void TransposedScores(const TileShape& shape, const float* keys, const float* queries, float* tile);

// out[query][:] += Σ_key tile[key][query] · values[key][:].
void AddOverKeys(const TileShape& shape, const float* tile, const float* values, float* out);

// out[key][:] += Σ_query tile[key][query] · values[query][:].
void AddOverQueries(const TileShape& shape, const float* tile, const float* values, float* out);

// ---- Packing. ----

// packed[0 .. padded width) = row in fp32, zero beyond `width`.
template <typename T>
inline void PackRow(const T* row, int64_t width, float* packed) {
  simd::ForEachVector(width,
                      [&](int64_t d, auto lanes) { simd::Store(packed + d, lanes.Load(row + d)); });
}

// row = factor · packed, rounded to T.
template <typename T>
inline void UnpackRow(const float* packed, float factor, int64_t width, T* row) {
  simd::ForEachVector(
      width, [&](int64_t d, auto lanes) { lanes.Store(row + d, simd::Load(packed + d) * factor); });
}

// columns[d][r] = packed[r][d] for r below `count` rounded up to whole vectors, whose rows must be readable; rows of
// `columns` are kBlock apart.
void TransposeBlock(const float* packed, int64_t count, int64_t padded_width, float* columns);

}  // namespace entrain::cpu::attention

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_TILE_CPU_H_
