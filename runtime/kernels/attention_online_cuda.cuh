// What attention's forwards on tensor cores share: the running values of rows of scores, and what becomes of them.
//
// Scores stay as they come out of the product: the difference to the running maximum is taken before it is scaled, so that
// exponents x are exactly 0 at the maximum and nowhere positive. Then Σ 2^x ≥ 1 and −Σ 2^x·x ≥ 0, and so is the entropy made
// of them, without a clamp.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_ONLINE_CUDA_CUH_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_ONLINE_CUDA_CUH_

#include "runtime/kernels/attention_tile_cuda.cuh"

namespace entrain::cuda::attention {

struct ForwardOperands {
  Shape shape;
  Temperature temperature;
  const Bf16* qkv;
  Bf16* out;
  float* lse;
  float* lse_low;
  float* entropy;

  explicit ForwardOperands(const AttentionForwardArgs& args)
      : shape(args.qkv),
        temperature(args.temperature, shape.width),
        qkv(args.qkv.data<Bf16>()),
        out(args.out.data<Bf16>()),
        lse(args.lse.data<float>()),
        lse_low(args.lse_low ? args.lse_low.data<float>() : nullptr),
        entropy(args.entropy.data<float>()) {}
};

// Running values of the warp's rows over the keys so far, as in the CPU's OnlineSoftmax: sum = Σ 2^x, weighted = −Σ 2^x·x,
// x = (q·k − maximum)·scale. [m][half]: row 16·m + 8·half + g. Sums are of the lane's own columns until the end.
template <int kRowTiles>
struct OnlineRows {
  float scale[kRowTiles][2];
  float maximum[kRowTiles][2];
  float sum[kRowTiles][2];
  float weighted[kRowTiles][2];

  // Adds a tile's sums, made with the maximum `top`. Returns what earlier sums are multiplied by.
  __device__ __forceinline__ float Join(int m, int half, float top, float tile_sum,
                                        float tile_weighted) {
    const float rise = (top - maximum[m][half]) * scale[m][half];
    const float rescale = Exp2(-rise);
    weighted[m][half] = fmaf(rescale, fmaf(rise, sum[m][half], weighted[m][half]), tile_weighted);
    sum[m][half] = fmaf(rescale, sum[m][half], tile_sum);
    maximum[m][half] = top;
    return rescale;
  }
};

// Scales cost a division in fp64: lane l % 4 of the four that share rows makes that of row number l % 4 of theirs.
template <int kRowTiles>
__device__ __forceinline__ void StartRows(const ForwardOperands& operands, int pair, int query,
                                          OnlineRows<kRowTiles>& rows) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int position = min(query + lane % 4 * 8 + lane / 4, operands.shape.length - 1);
  const float scale = operands.temperature.Scale(pair % operands.shape.heads, position);
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      rows.scale[m][half] = ShuffleFrom(scale, lane / 4 * 4 + 2 * m + half);
      rows.maximum[m][half] = kMasked;
      rows.sum[m][half] = 0.0F;
      rows.weighted[m][half] = 0.0F;
    }
  }
}

// The largest of the lane's scores of one row, or `top`.
template <int kColumns>
__device__ __forceinline__ void RaiseTop(const float (&scores)[kColumns][4], int half, float& top) {
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
    top = fmaxf(top, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
  }
}

// The lane's scores of one row become powers 2^x and are added to the sums.
template <int kColumns>
__device__ __forceinline__ void ToPowers(float (&scores)[kColumns][4], int half, float top,
                                         float scale, float& sum, float& weighted) {
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int i = 2 * half; i < 2 * half + 2; ++i) {
      const float x = (scores[n][i] - top) * scale;
      const float power = Exp2(x);
      sum += power;
      weighted = fmaf(-power, x, weighted);
      scores[n][i] = power;
    }
  }
}

// Over the four lanes that share rows.
__device__ __forceinline__ float MaxOfFour(float value) {
  value = fmaxf(value, ShuffleXor(value, 1));
  return fmaxf(value, ShuffleXor(value, 2));
}
__device__ __forceinline__ float SumOfFour(float value) {
  value += ShuffleXor(value, 1);
  return value + ShuffleXor(value, 2);
}

// Sums become those of whole rows, and lse and entropy are written: by lane l % 4 of the four that share rows, row number
// l % 4 of theirs. inverse: what out is multiplied by.
template <int kRowTiles>
__device__ __forceinline__ void FinishSums(const ForwardOperands& operands, int pair, int query,
                                           const OnlineRows<kRowTiles>& rows,
                                           float (&inverse)[kRowTiles][2]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float sum = 1.0F;
  float weighted = 0.0F;
  float maximum = 0.0F;
  float scale = 0.0F;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float row_sum = SumOfFour(rows.sum[m][half]);
      const float row_weighted = SumOfFour(rows.weighted[m][half]);
      inverse[m][half] = 1.0F / row_sum;
      if (lane % 4 == 2 * m + half) {
        sum = row_sum;
        weighted = row_weighted;
        maximum = rows.maximum[m][half];
        scale = rows.scale[m][half];
      }
    }
  }
  const int position = query + lane % 4 * 8 + lane / 4;
  if (lane % 4 >= 2 * kRowTiles || position >= operands.shape.length) return;
  WriteRow(operands, pair, position, maximum, scale, sum, weighted);
}

// The warp's rows of out, each multiplied by its factor.
template <int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void ScaleRows(float (&out)[kRowTiles][kColumnTiles][4],
                                          const float (&factors)[kRowTiles][2]) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[m][n][i] *= factors[m][i / 2];
    }
  }
}

// FinishSums, and out is divided by them.
template <int kWidth, int kRowTiles>
__device__ __forceinline__ void FinishRows(const ForwardOperands& operands, int pair, int query,
                                           const OnlineRows<kRowTiles>& rows,
                                           float (&out)[kRowTiles][kWidth / 8][4]) {
  float inverse[kRowTiles][2];
  FinishSums(operands, pair, query, rows, inverse);
  ScaleRows(out, inverse);
}

}  // namespace entrain::cuda::attention

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_ONLINE_CUDA_CUH_
