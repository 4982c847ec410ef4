#include <numbers>

#include "runtime/kernels/attention_cpu.h"

namespace entrain::cpu {
namespace {

using attention::kBlock;
using attention::kMasked;
using attention::TileShape;
using simd::Float;
using simd::kLanes;

constexpr double kLn2 = std::numbers::ln2;
// Keys whose powers are summed apart: sums of sums of 8, then of 8 such, then over blocks, round less than long ones.
constexpr int64_t kGroup = 8;

// Running values of a block's queries over the keys seen so far. With x = (q·k − maximum)·scale ≤ 0, an exponent of 2:
// sum = Σ 2^x and weighted = −Σ 2^x·x. The difference is taken before it is scaled, so that it is exactly 0 at the
// maximum, which makes sum ≥ 1, and entropies ≥ 0 without a clamp.
// rescale: what the last tile's new maxima multiply sums over earlier keys by.
struct OnlineSoftmax {
  alignas(64) float scale[kBlock];
  alignas(64) float maximum[kBlock];
  alignas(64) float sum[kBlock];
  alignas(64) float weighted[kBlock];
  alignas(64) float rescale[kBlock];

  void Reset() {
    std::fill_n(maximum, kBlock, kMasked);
    std::fill_n(sum, kBlock, 0.0F);
    std::fill_n(weighted, kBlock, 0.0F);
  }
};

// Overwrites with kMasked the scores of the diagonal tile's vector v whose key comes after the
// query.
void MaskVector(int64_t v, int64_t keys, float* tile) {
  const Float lane = attention::LaneNumbers();
  for (int64_t j = v * kLanes; j < keys; ++j) {
    float* scores = tile + j * kBlock + v * kLanes;
    const Float first = simd::Zero() + static_cast<float>(j - v * kLanes);
    simd::Store(scores, lane >= first ? simd::Load(scores) : simd::Zero() + kMasked);
  }
}

// Turns vector v's column of scores into powers 2^x and merges the tile into the running values.
void SoftmaxVector(int64_t v, int64_t keys, OnlineSoftmax& rows, float* tile) {
  float* column = tile + v * kLanes;
  const Float scale = simd::Load(rows.scale + v * kLanes);
  const Float old_maximum = simd::Load(rows.maximum + v * kLanes);
  Float maximum = old_maximum;
  for (int64_t j = 0; j < keys; ++j) maximum = simd::Max(simd::Load(column + j * kBlock), maximum);
  Float sum = simd::Zero();
  Float weighted = simd::Zero();
  for (int64_t j = 0; j < keys; j += kGroup) {
    Float group_sum = simd::Zero();
    Float group_weighted = simd::Zero();
    const int64_t end = std::min(keys, j + kGroup);
    for (int64_t key = j; key < end; ++key) {
      const Float x = (simd::Load(column + key * kBlock) - maximum) * scale;
      const Float power = simd::Exp2(x);
      group_sum += power;
      group_weighted -= power * x;
      simd::Store(column + key * kBlock, power);
    }
    sum += group_sum;
    weighted += group_weighted;
  }
  const Float rise = (maximum - old_maximum) * scale;
  const Float rescale = simd::Exp2(-rise);
  const Float old_sum = simd::Load(rows.sum + v * kLanes);
  weighted += rescale * (simd::Load(rows.weighted + v * kLanes) + rise * old_sum);
  sum += rescale * old_sum;
  simd::Store(rows.maximum + v * kLanes, maximum);
  simd::Store(rows.sum + v * kLanes, sum);
  simd::Store(rows.weighted + v * kLanes, weighted);
  simd::Store(rows.rescale + v * kLanes, rescale);
}

void SoftmaxTile(const TileShape& shape, OnlineSoftmax& rows, float* tile) {
  for (int64_t v = 0; v < shape.vectors(); ++v) {
    const int64_t keys = shape.KeysOfVector(v);
    if (shape.diagonal) MaskVector(v, keys, tile);
    SoftmaxVector(v, keys, rows, tile);
  }
}

void RescaleRows(const TileShape& shape, const float* rescale, float* out) {
  for (int64_t i = 0; i < shape.queries; ++i, out += shape.padded_width) {
    for (int64_t d = 0; d < shape.padded_width; d += kLanes) {
      simd::Store(out + d, simd::Load(out + d) * rescale[i]);
    }
  }
}

// One (sequence, head) pair.
template <typename T>
class ForwardPair {
 public:
  static int64_t ScratchFloats(const AttentionShape& shape) {
    const int64_t width = shape.padded_width();
    return 2 * shape.padded_length() * width + 3 * kBlock * width + kBlock * kBlock;
  }

  ForwardPair(const AttentionForwardArgs& args, const AttentionShape& shape, float* scratch,
              int64_t pair)
      : shape_(shape),
        qkv_(args.qkv.data<T>() + shape.QueryOffset(pair)),
        out_(args.out.data<T>() + shape.OutOffset(pair)),
        lse_(args.lse.data<float>() + pair * shape.length),
        lse_low_(args.lse_low ? args.lse_low.data<float>() + pair * shape.length : nullptr),
        entropy_(args.entropy.data<float>() + pair * shape.length),
        queries_(shape, args.temperature, pair % shape.heads) {
    ScratchCutter cutter(scratch);
    const int64_t width = shape.padded_width();
    keys_ = cutter.Take(shape.padded_length() * width);
    values_ = cutter.Take(shape.padded_length() * width);
    query_rows_ = cutter.Take(kBlock * width);
    query_columns_ = cutter.Take(kBlock * width);
    sums_ = cutter.Take(kBlock * width);
    tile_ = cutter.Take(kBlock * kBlock);
  }

  void Run() {
    PackKeysAndValues(shape_, qkv_, keys_, values_);
    for (int64_t begin = 0; begin < shape_.length; begin += kBlock) QueryBlock(begin);
  }

 private:
  void QueryBlock(int64_t begin) {
    const int64_t width = shape_.padded_width();
    TileShape tile{std::min(kBlock, shape_.length - begin), kBlock, width, false};
    queries_.Pack(qkv_, begin, tile.queries, query_rows_, query_columns_);
    rows_.Reset();
    for (int64_t i = 0; i < tile.queries; ++i) rows_.scale[i] = queries_.Scale(begin + i);
    std::fill_n(sums_, kBlock * width, 0.0F);
    for (int64_t key = 0; key <= begin; key += kBlock) {
      tile.diagonal = key == begin;
      if (tile.diagonal) tile.keys = tile.queries;
      attention::TransposedScores(tile, keys_ + key * width, query_columns_, tile_);
      SoftmaxTile(tile, rows_, tile_);
      if (key > 0) RescaleRows(tile, rows_.rescale, sums_);
      attention::AddOverKeys(tile, tile_, values_ + key * width, sums_);
    }
    WriteRows(begin, tile.queries);
  }

  void WriteRows(int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const auto sum = static_cast<double>(rows_.sum[i]);
      const auto maximum = static_cast<double>(rows_.maximum[i]);
      const double log2_sum = std::log2(sum);
      const double lse = kLn2 * (maximum * rows_.scale[i] + log2_sum);
      lse_[begin + i] = static_cast<float>(lse);
      if (lse_low_ != nullptr) lse_low_[begin + i] = static_cast<float>(lse - lse_[begin + i]);
      entropy_[begin + i] = static_cast<float>(kLn2 * (log2_sum + rows_.weighted[i] / sum));
      attention::UnpackRow(sums_ + i * shape_.padded_width(), 1.0F / rows_.sum[i], shape_.width,
                           out_ + (begin + i) * shape_.out_stride());
    }
  }

  const AttentionShape& shape_;
  const T* qkv_;
  T* out_;
  float* lse_;
  float* lse_low_;
  float* entropy_;
  HeadQueries queries_;
  float* keys_;
  float* values_;
  float* query_rows_;
  float* query_columns_;
  float* sums_;
  float* tile_;
  OnlineSoftmax rows_{};
};

}  // namespace

void AttentionForward(Context& context, const AttentionForwardArgs& args) {
  const AttentionShape shape(args.qkv);
  DispatchFloat(args.qkv.dtype(), [&](auto element) {
    using T = decltype(element);
    ParallelForWithScratch(
        context, shape.pairs(), ForwardPair<T>::ScratchFloats(shape),
        [&](float* scratch, int64_t pair) { ForwardPair<T>(args, shape, scratch, pair).Run(); });
  });
}

}  // namespace entrain::cpu
