// The CUDA backend of attention: what its files share.
//
// Two paths. Tensor cores (attention_forward_, attention_backward_, attention_short_*_cuda.cu; attention_warpgroup_*_cuda.cu
// on Hopper): bf16, head widths 32, 64, 80, 96, 128. Plain arithmetic (attention_plain_cuda.cu): fp32, and any other width
// up to kMaxWidth. Both hold one tile of scores at a time, in registers, and sum in an order that T and D alone determine.
// The backward is made of a kernel for the numbers that belong to a row of scores (attention_rows_cuda.cu), one for dK and
// dV, a block of which owns a tile of keys, and one for dQ, a block of which owns a tile of queries: each recomputes the
// scores, and no sum is shared by two blocks. Up to 256 positions, where a pair fits into shared memory, one block does all
// of it.
#ifndef ENTRAIN_RUNTIME_KERNELS_ATTENTION_CUDA_H_
#define ENTRAIN_RUNTIME_KERNELS_ATTENTION_CUDA_H_

#include <cmath>
#include <cstdint>
#include <initializer_list>

#include "runtime/device/buffer.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/attention.h"
#include "runtime/kernels/cuda_intrinsics.cuh"

namespace entrain::cuda {

void AttentionForward(Context& context, const AttentionForwardArgs& args);
void AttentionBackward(Context& context, const AttentionBackwardArgs& args);
void AttentionDecode(Context& context, const AttentionDecodeArgs& args);
// By cuDNN where the context was told so (attention_engine.h); false, and nothing is done, where not.
bool BackwardByCudnn(Context& context, const AttentionBackwardArgs& args);

namespace attention {

// Of a head, on the plain path and in decoding.
inline constexpr int kMaxWidth = static_cast<int>(MostHeadWidth(DeviceKind::kCuda));
// A score that a query does not see. Finite, also times what scales it and its gradient: 0 · (−∞) would be NaN.
inline constexpr float kMasked = -1e20F;
inline constexpr double kLn2 = 0.693147180559945309417232121458;
inline constexpr double kLog2E = 1.44269504088896340735992468100;

// Sizes of qkv [B, T, 3, H, D] and where a (sequence, head) pair lies in it. pair = b·H + h.
struct Shape {
  int batch = 0;
  int length = 0;
  int heads = 0;
  int width = 0;

  explicit Shape(const TensorView& qkv)
      : batch(static_cast<int>(qkv.dim(0))),
        length(static_cast<int>(qkv.dim(1))),
        heads(static_cast<int>(qkv.dim(3))),
        width(static_cast<int>(qkv.dim(4))) {}

  __host__ __device__ int pairs() const { return batch * heads; }
  // Distance between positions in qkv (out): elements.
  __host__ __device__ int64_t qkv_stride() const { return 3 * out_stride(); }
  __host__ __device__ int64_t out_stride() const { return static_cast<int64_t>(heads) * width; }
  // First element of the pair's q; k and v follow at out_stride() and twice that.
  __host__ __device__ int64_t QueryOffset(int pair) const {
    return (pair / heads) * length * qkv_stride() + (pair % heads) * width;
  }
  __host__ __device__ int64_t OutOffset(int pair) const {
    return (pair / heads) * length * out_stride() + (pair % heads) * width;
  }
};

// t of a head's query, and what q·k is multiplied by: rounded once, as on the CPU.
struct Temperature {
  const float* values = nullptr;
  int64_t head_stride = 0;
  int64_t position_stride = 0;
  double root_width = 1.0;

  Temperature(const TensorView& temperature, int width)
      : root_width(std::sqrt(static_cast<double>(width))) {
    if (!temperature) return;
    values = temperature.data<float>();
    position_stride = temperature.num_dims() == 2 ? 1 : 0;
    head_stride = temperature.num_dims() == 2 ? temperature.dim(1) : 1;
  }

  __device__ float At(int head, int position) const {
    return values == nullptr ? 1.0F : values[head * head_stride + position * position_stride];
  }
  // 1/(t√D), and the same for an exponent of 2.
  __device__ float FactorOf(float t) const { return static_cast<float>(1.0 / (t * root_width)); }
  __device__ float ScaleOf(float t) const { return static_cast<float>(kLog2E / (t * root_width)); }
  __device__ float Scale(int head, int position) const { return ScaleOf(At(head, position)); }
};

// A tile of a pair's rows.
struct RowTile {
  int pair;
  int first;  // row
};

// Which tile of which pair a block works on. Tiles of more work come first, so that the last blocks to run are short; but
// pairs go in groups whose keys and values the L2 cache holds together.
struct TileOrder {
  int tiles = 0;  // of a pair
  int pairs = 0;
  int group = 1;

  TileOrder(const Shape& shape, int tile_rows);

  __host__ __device__ unsigned blocks() const {
    return static_cast<unsigned>(tiles) * static_cast<unsigned>(pairs);
  }
  // `rank`: 0 for the tile that comes first.
  __device__ void Find(unsigned block, int& rank, int& pair) const {
    const unsigned whole = static_cast<unsigned>(group) * static_cast<unsigned>(tiles);
    const int first = static_cast<int>(block / whole) * group;
    const int size = min(group, pairs - first);
    const int within = static_cast<int>(block % whole);
    rank = within / size;
    pair = first + within % size;
  }
  // The tile of `rows` keys that a block owns: the first ones are seen by most queries.
  __device__ RowTile FindKeys(unsigned block, int rows) const {
    int rank;
    int pair;
    Find(block, rank, pair);
    return {.pair = pair, .first = rank * rows};
  }
  // Of queries: the last ones see most keys.
  __device__ RowTile FindQueries(unsigned block, int rows) const {
    int rank;
    int pair;
    Find(block, rank, pair);
    return {.pair = pair, .first = (tiles - 1 - rank) * rows};
  }
};

// Writes lse, in two parts where there is a place for the second, and entropy of a row of scores, where x = (q·k − maximum)·scale,
// sum = Σ 2^x and weighted = −Σ 2^x·x. Operands: a forward's.
template <typename Operands>
__device__ void WriteRow(const Operands& operands, int pair, int position, float maximum,
                         float scale, float sum, float weighted) {
  const double log2_sum = log2(static_cast<double>(sum));
  const double lse = kLn2 * (static_cast<double>(maximum) * scale + log2_sum);
  const int64_t at = static_cast<int64_t>(pair) * operands.shape.length + position;
  operands.lse[at] = static_cast<float>(lse);
  if (operands.lse_low != nullptr) {
    operands.lse_low[at] = static_cast<float>(lse - static_cast<float>(lse));
  }
  operands.entropy[at] =
      static_cast<float>(kLn2 * (log2_sum + static_cast<double>(weighted) / sum));
}

// What a query's row of score gradients is made of, a float each for every position of every pair. With g = ∂L/∂H and
// f = 1/(t√D), the gradient of q·k is
//   f·ds = a·(f·dP − offset − slope·y),  a = 2^x,  x = scale·(q·k) − log_sum − log_sum_low,  y = x + entropy
//   scale = f·log2 e,  log_sum + log_sum_low = lse·log2 e in two parts,  entropy = H·log2 e,  slope = f·g·ln 2,
//   offset = f·Σ_d dO·O
// Centred offsets have slope·entropy added, for the form f·dP − offset − slope·x, one addition shorter. bf16 cannot tell.
// moment = Σ_j f·ds·y, which becomes the temperature's gradient: dt = −ln 2·moment/(t·f), because Σ ds = 0.
// In row 0 of a sequence, factor, offset and slope are 0, so that ds is. Rows beyond T have a = 0 and ds = 0.
enum RowTerm {
  kScale,
  kLogSum,
  kFactor,
  kOffset,
  kSlope,
  kEntropy,
  kLogSumLow,
  kMoment,
  kRowTerms
};

// Their place: [pairs][padded_length / kBlock][kRowTerms][kBlock], so that those of some neighbouring rows lie together.
struct RowTerms {
  static constexpr int kBlock = 32;
  static constexpr int kPadding = 128;  // of T, so that tiles of queries are whole
  float* values = nullptr;
  int pairs = 0;
  int padded_length = 0;

  explicit RowTerms(const Shape& shape)
      : pairs(shape.pairs()), padded_length((shape.length + kPadding - 1) / kPadding * kPadding) {}
  int64_t bytes() const {
    return int64_t{pairs} * padded_length * kRowTerms * static_cast<int64_t>(sizeof(float));
  }
  // The first term of a row; the others follow at distances of kBlock.
  __device__ float* Of(int pair, int position) const {
    const int64_t row = static_cast<int64_t>(pair) * padded_length + position;
    return values + row / kBlock * (kBlock * kRowTerms) + position % kBlock;
  }
};

// Memory of RowTerms between the kernels of a backward.
struct Scratch {
  Buffer rows;
};

// Whether the tensor cores' path can take this head width; `views` must all be bf16 and at multiples of 16 bytes.
bool FitsTensorCores(int width, std::initializer_list<TensorView> views);

void TensorForward(Context& context, const AttentionForwardArgs& args);
void TensorBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows);
// Hopper's tensor cores, for sequences beyond the short ones, where FitsTensorCores holds.
bool FitsWarpgroups(const CudaDevice& device, const Shape& shape);
void WarpgroupForward(Context& context, const AttentionForwardArgs& args);
void WarpgroupBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows);
// Short sequences, in one kernel each. The device's shared memory says how short.
bool FitsShortForward(const CudaDevice& device, const AttentionForwardArgs& args);
void ShortForward(Context& context, const AttentionForwardArgs& args);
bool FitsShortBackward(const CudaDevice& device, const AttentionBackwardArgs& args);
// Without FillRowTerms: it makes them itself, and writes to `rows` what ReduceTemperatureGradient needs.
void ShortBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows);
void PlainForward(Context& context, const AttentionForwardArgs& args);
void PlainBackward(Context& context, const AttentionBackwardArgs& args, const RowTerms& rows);

// All terms but moment.
void FillRowTerms(Context& context, const AttentionBackwardArgs& args, bool centred_offsets,
                  const RowTerms& rows);
// dtemperature from the moments.
void ReduceTemperatureGradient(Context& context, const AttentionBackwardArgs& args,
                               const RowTerms& rows);

}  // namespace attention
}  // namespace entrain::cuda

#endif  // ENTRAIN_RUNTIME_KERNELS_ATTENTION_CUDA_H_
