#include "runtime/kernels/attention_tile_cpu.h"

#include <utility>

namespace entrain::cpu::attention {
namespace {

using simd::Float;
using simd::kLanes;

// Swaps the off-diagonal kWidth×kWidth quarters of each 2·kWidth square: one of log2(lanes) steps of a transposition.
// A shuffle's lane numbers count through both operands.
template <int kWidth, int... kLane>
inline void SwapQuarters(Float (&rows)[kLanes], std::integer_sequence<int, kLane...> /*lanes*/) {
  for (int r = 0; r < kLanes; ++r) {
    if ((r & kWidth) != 0) continue;
    const Float a = rows[r];
    const Float b = rows[r + kWidth];
    rows[r] =
        __builtin_shufflevector(a, b, ((kLane & kWidth) != 0 ? kLane + kLanes - kWidth : kLane)...);
    rows[r + kWidth] =
        __builtin_shufflevector(a, b, ((kLane & kWidth) != 0 ? kLane + kLanes : kLane + kWidth)...);
  }
}

inline void TransposeSquare(Float (&rows)[kLanes]) {
  constexpr std::make_integer_sequence<int, kLanes> kAll{};
  if constexpr (kLanes > 8) SwapQuarters<8>(rows, kAll);
  if constexpr (kLanes > 4) SwapQuarters<4>(rows, kAll);
  SwapQuarters<2>(rows, kAll);
  SwapQuarters<1>(rows, kAll);
}

}  // namespace

void TransposedScores(const TileShape& shape, const float* keys, const float* queries,
                      float* tile) {
  const int64_t width = shape.padded_width;
  for (int64_t j = 0; j < shape.keys; j += kRows) {
    const int64_t first = shape.FirstVector(j);
    const int64_t vectors = shape.vectors() - first;
    const float* a = keys + j * width;
    const float* b = queries + first * kLanes;
    float* c = tile + j * kBlock + first * kLanes;
    RowsProduct<Layout::kRowMajor, false>(a, width, b, kBlock, std::min(kDepth, width), c, kBlock,
                                          vectors);
    for (int64_t d = kDepth; d < width; d += kDepth) {
      RowsProduct<Layout::kRowMajor, true>(a + d, width, b + d * kBlock, kBlock,
                                           std::min(kDepth, width - d), c, kBlock, vectors);
    }
  }
}

void AddOverKeys(const TileShape& shape, const float* tile, const float* values, float* out) {
  const int64_t width = shape.padded_width;
  for (int64_t i = 0; i < shape.queries; i += kRows) {
    const int64_t keys = shape.diagonal ? std::min(shape.keys, i + kRows) : shape.keys;
    RowsProduct<Layout::kTransposed, true>(tile + i, kBlock, values, width, keys, out + i * width,
                                           width, width / kLanes);
  }
}

void AddOverQueries(const TileShape& shape, const float* tile, const float* values, float* out) {
  const int64_t width = shape.padded_width;
  for (int64_t j = 0; j < shape.keys; j += kRows) {
    const int64_t first = shape.diagonal ? j : 0;
    RowsProduct<Layout::kRowMajor, true>(tile + j * kBlock + first, kBlock, values + first * width,
                                         width, shape.queries - first, out + j * width, width,
                                         width / kLanes);
  }
}

void TransposeBlock(const float* packed, int64_t count, int64_t padded_width, float* columns) {
  for (int64_t i = 0; i < count; i += kLanes) {
    for (int64_t d = 0; d < padded_width; d += kLanes) {
      Float rows[kLanes];
      for (int r = 0; r < kLanes; ++r) rows[r] = simd::Load(packed + (i + r) * padded_width + d);
      TransposeSquare(rows);
      for (int r = 0; r < kLanes; ++r) simd::Store(columns + (d + r) * kBlock + i, rows[r]);
    }
  }
}

}  // namespace entrain::cpu::attention
