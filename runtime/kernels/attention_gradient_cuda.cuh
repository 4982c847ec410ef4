// The two halves of attention's backward on tensor cores, by one warp, 32 rows of a tile at a time: what is neither summed
// up nor read again must fit in registers beside the sums.
//
// dK and dV: the warp owns keys. Scores are made transposed, S^T = K·Q^T, so that P^T and dS^T come out as fragments of the
// products P^T·dO and dS^T·Q. dQ: the warp owns queries, as in the forward. Row terms (RowTerms) are centred.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_GRADIENT_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_GRADIENT_CUDA_CUH_

#include "runtime/kernels/attention_tile_cuda.cuh"

namespace entrain::cuda::attention {

inline constexpr int kPart = RowTerms::kBlock;  // rows of the tile at a time

// q·k becomes the probability, dP the score's gradient f·ds; x is returned. kMasked becomes 0 and 0.
template <bool kWithEntropy>
__device__ __forceinline__ float ScoreGradient(float& score, float& dprob, float scale,
                                               float log_sum, float factor, float offset,
                                               float slope) {
  const float x = fmaf(score, scale, -log_sum);
  float inner = fmaf(dprob, factor, -offset);
  if constexpr (kWithEntropy) inner = fmaf(-slope, x, inner);
  score = Exp2(x);
  dprob = score * inner;
  return x;
}

// ---- the warp owns keys ----

// Probabilities and gradients of the transposed scores [keys][queries]. terms: those of the queries, a block of RowTerms.
// kWithMoment: the lane's keys join moments[2·n + i] of the query in column i of its column tile n.
template <bool kWithEntropy, bool kWithMoment, int kRowTiles>
__device__ __forceinline__ void TransposedGradients(float (&scores)[kRowTiles][kPart / 8][4],
                                                    float (&dprobs)[kRowTiles][kPart / 8][4],
                                                    const float* terms,
                                                    float (&moments)[kPart / 4]) {
  terms += static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int n = 0; n < kPart / 8; ++n) {
    // Or else the compiler reads the terms of all n at once, and has no registers left for what outlives them.
    if (n % 2 == 0) __syncwarp();
    auto two = [&](int term) {
      return *reinterpret_cast<const float2*>(terms + term * RowTerms::kBlock + n * 8);
    };
    const float2 scale = two(kScale);
    const float2 log_sum = two(kLogSum);
    const float2 factor = two(kFactor);
    const float2 offset = two(kOffset);
    const float2 slope = kWithEntropy ? two(kSlope) : float2{};
    const float2 entropy = kWithMoment ? two(kEntropy) : float2{};
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        auto of = [&](const float2& term) { return i % 2 == 0 ? term.x : term.y; };
        float& dprob = dprobs[m][n][i];
        const float x = ScoreGradient<kWithEntropy>(scores[m][n][i], dprob, of(scale), of(log_sum),
                                                    of(factor), of(offset), of(slope));
        if constexpr (kWithMoment) {
          float& moment = moments[2 * n + i % 2];
          moment = fmaf(dprob, x + of(entropy), moment);
        }
      }
    }
  }
}

// Adds 32 queries to dK and dV. keys, values: the warp's rows; queries, douts, terms: those of the 32. behind: the first of
// these queries less the warp's first key.
template <int kWidth, int kRowTiles, bool kWithEntropy, typename Rows>
__device__ __forceinline__ void AddKeyGradients(const Rows& keys, const Rows& values,
                                                const Bf16* queries, const Bf16* douts,
                                                const float* terms, int behind,
                                                float (&dkeys)[kRowTiles][kWidth / 8][4],
                                                float (&dvalues)[kRowTiles][kWidth / 8][4]) {
  float scores[kRowTiles][kPart / 8][4];
  float dprobs[kRowTiles][kPart / 8][4];
  Scores<kWidth, kRowTiles, kPart>(scores, keys, queries);
  if (behind < 16 * kRowTiles - 1) MaskScores<true>(scores, behind);
  Scores<kWidth, kRowTiles, kPart>(dprobs, values, douts);
  float moments[kPart / 4];
  TransposedGradients<kWithEntropy, /*kWithMoment=*/false, kRowTiles>(scores, dprobs, terms,
                                                                      moments);
  AddWeighted<kWidth, kRowTiles, kPart>(dvalues, scores, douts);
  AddWeighted<kWidth, kRowTiles, kPart>(dkeys, dprobs, queries);
}

// ---- the warp owns queries ----

// Terms of the lane's rows. [m][half]: row 16·m + 8·half + g.
template <int kRowTiles>
struct LaneTerms {
  float values[kEntropy + 1][kRowTiles][2];
  float moment[kRowTiles][2];

  LaneTerms() = default;
  // `rows`: the warp's first row.
  __device__ __forceinline__ explicit LaneTerms(const float* rows) {
    const int g = static_cast<int>(threadIdx.x) % kWarp / 4;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int term = 0; term <= kEntropy; ++term) {
          values[term][m][half] = rows[term * RowTerms::kBlock + 16 * m + 8 * half + g];
        }
        moment[m][half] = 0.0F;
      }
    }
  }
};

// Gradients of the scores [queries][keys].
template <bool kWithEntropy, bool kWithMoment, int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void Gradients(float (&scores)[kRowTiles][kColumnTiles][4],
                                          float (&dprobs)[kRowTiles][kColumnTiles][4],
                                          LaneTerms<kRowTiles>& terms) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& dprob = dprobs[m][n][i];
        auto term = [&](int which) { return terms.values[which][m][i / 2]; };
        const float x =
            ScoreGradient<kWithEntropy>(scores[m][n][i], dprob, term(kScale), term(kLogSum),
                                        term(kFactor), term(kOffset), term(kSlope));
        if constexpr (kWithMoment) {
          float& moment = terms.moment[m][i / 2];
          moment = fmaf(dprob, x + term(kEntropy), moment);
        }
      }
    }
  }
}

// Moments of whole rows, written by the first of the four lanes that share them.
template <int kRowTiles>
__device__ __forceinline__ void StoreMoments(const LaneTerms<kRowTiles>& terms, float* rows) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float moment = terms.moment[m][half];
      moment += ShuffleXor(moment, 1);
      moment += ShuffleXor(moment, 2);
      if (lane % 4 == 0) {
        rows[kMoment * RowTerms::kBlock + 16 * m + 8 * half + lane / 4] = moment;
      }
    }
  }
}

// Adds 32 keys to dQ. queries, douts, terms: of the warp's rows; keys, values: the 32. ahead: the warp's first query less
// the first of these keys.
template <int kWidth, int kRowTiles, bool kWithEntropy, bool kWithMoment, typename Queries,
          typename Douts>
__device__ __forceinline__ void AddQueryGradients(const Queries& queries, const Douts& douts,
                                                  const Bf16* keys, const Bf16* values, int ahead,
                                                  LaneTerms<kRowTiles>& terms,
                                                  float (&dqueries)[kRowTiles][kWidth / 8][4]) {
  float scores[kRowTiles][kPart / 8][4];
  float dprobs[kRowTiles][kPart / 8][4];
  Scores<kWidth, kRowTiles, kPart>(scores, queries, keys);
  if (ahead < kPart - 1) MaskScores<false>(scores, ahead);
  Scores<kWidth, kRowTiles, kPart>(dprobs, douts, values);
  Gradients<kWithEntropy, kWithMoment, kRowTiles>(scores, dprobs, terms);
  AddWeighted<kWidth, kRowTiles, kPart>(dqueries, dprobs, keys);
}

// ---- both, when a block owns all of a pair ----

// Gradients of scores, transposed, in bf16: units of 16 keys × 32 queries, those of the same queries together, as many as
// there are keys to see. The four 16-byte chunks of a row change places, so that neither writing nor reading meets conflicts
// of banks.
class Units {
 public:
  static constexpr int kKeys = 16;
  static constexpr int kElements = kKeys * kPart;
  static constexpr int Bytes(int length) {
    return length / kPart * (length / kPart + 1) * kElements * static_cast<int>(sizeof(Bf16));
  }

  __device__ __forceinline__ explicit Units(Bf16* memory) : memory_(memory) {}

  // Fragments a of 16 keys × 32 queries.
  __device__ __forceinline__ void Put(int key, int query, const uint32_t (&a)[2][1][4]) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    auto* words = reinterpret_cast<uint32_t*>(Of(key, query));
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = lane / 4 + i % 2 * 8;
      const int chunk = i / 4 * 2 + i % 4 / 2;
      words[row * (kPart / 2) + Place(row, chunk) * 4 + lane % 4] = a[i / 4][0][i % 4];
    }
  }
  // Fragment a of 16 queries × 16 keys.
  __device__ __forceinline__ void GetTransposed(int key, int query, uint32_t (&a)[4]) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const int row = lane % 8 + lane / 16 * 8;
    const int chunk = query % kPart / 8 + lane / 8 % 2;
    LoadMatricesTransposed(a, Of(key, query) + row * kPart + Place(row, chunk) * kChunk);
  }

 private:
  __device__ __forceinline__ Bf16* Of(int key, int query) const {
    const int column = query / kPart;
    return memory_ + (column * (column + 1) + key / kKeys) * kElements;
  }
  __device__ static __forceinline__ int Place(int row, int chunk) { return chunk ^ (row / 2 % 4); }

  Bf16* memory_;
};

}  // namespace entrain::cuda::attention

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_GRADIENT_CUDA_CUH_
