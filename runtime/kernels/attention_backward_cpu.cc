#include <numbers>
#include <vector>

#include "runtime/kernels/attention_cpu.h"

namespace entrain::cpu {
namespace {

using attention::kBlock;
using attention::TileShape;
using simd::Float;
using simd::kLanes;

constexpr float kLn2 = std::numbers::ln2_v<float>;

// What a query's row of score gradients is made of, for the queries of a block. With g = ∂L/∂H and f = 1/(t√D), the
// gradient of q·k, a tile at a time, is
//   f·ds = a·(f·dP − slope·y − offset),  a = 2^x,  x = scale·(q·k) − log_sum,  y = x + entropy
//   scale = f·log2 e,  log_sum + log_sum_low = lse·log2 e in two parts,  entropy = H·log2 e,  slope = f·g·ln 2,
//   offset = f·Σ_d dO·O
// y is log2 a less its mean over the row, so that neither g's part nor the temperature's gradient is a small difference:
//   dt = −Σ ds·s/t = −ln 2·Σ ds·y/t, because Σ ds = 0
// (on paper also −q·dq/t, which would magnify by the size of the scores what rounding leaves of Σ ds).
struct RowTerms {
  alignas(64) float factor[kBlock];
  alignas(64) float scale[kBlock];
  alignas(64) float log_sum[kBlock];
  alignas(64) float log_sum_low[kBlock];
  alignas(64) float entropy[kBlock];
  alignas(64) float offset[kBlock];
  alignas(64) float slope[kBlock];
  alignas(64) float moment[kBlock];  // Σ_j f·ds·y over the keys so far
};

// In place, for the query vector v: q·k → probabilities, dP → f·ds. On the diagonal,
// where keys come after the vector's first query, what the mask excludes becomes 0.
template <bool kEntropy>
void ScoreGradientVector(int64_t v, int64_t first_masked, int64_t keys, RowTerms& rows,
                         float* scores, float* dprobs) {
  Float moment = simd::Load(rows.moment + v * kLanes);
  const Float factor = simd::Load(rows.factor + v * kLanes);
  const Float scale = simd::Load(rows.scale + v * kLanes);
  const Float log_sum = simd::Load(rows.log_sum + v * kLanes);
  const Float log_sum_low = simd::Load(rows.log_sum_low + v * kLanes);
  const Float entropy = simd::Load(rows.entropy + v * kLanes);
  const Float offset = simd::Load(rows.offset + v * kLanes);
  const Float slope = simd::Load(rows.slope + v * kLanes);
  const Float lane = attention::LaneNumbers();
  auto one_key = [&](int64_t j, auto&& mask) {
    const int64_t at = j * kBlock + v * kLanes;
    const Float x = (simd::Load(scores + at) * scale - log_sum) - log_sum_low;
    const Float y = x + entropy;
    Float inner = simd::Load(dprobs + at) * factor - offset;
    if constexpr (kEntropy) inner -= slope * y;
    const Float prob = mask(simd::Exp2(x));
    simd::Store(scores + at, prob);
    const Float dscore = mask(prob * inner);
    moment += dscore * y;
    simd::Store(dprobs + at, dscore);
  };
  for (int64_t j = 0; j < first_masked; ++j) {
    one_key(j, [](Float value) { return value; });
  }
  for (int64_t j = first_masked; j < keys; ++j) {
    const Float first = simd::Zero() + static_cast<float>(j - v * kLanes);
    one_key(j, [&](Float value) { return lane >= first ? value : simd::Zero(); });
  }
  simd::Store(rows.moment + v * kLanes, moment);
}

template <bool kEntropy>
void ScoreGradientTile(const TileShape& shape, RowTerms& rows, float* scores, float* dprobs) {
  for (int64_t v = 0; v < shape.vectors(); ++v) {
    const int64_t keys = shape.KeysOfVector(v);
    const int64_t first_masked = shape.diagonal ? std::min(keys, v * kLanes) : keys;
    ScoreGradientVector<kEntropy>(v, first_masked, keys, rows, scores, dprobs);
  }
}

float Dot(const float* a, const float* b, int64_t padded_width) {
  Float sum = simd::Zero();
  for (int64_t d = 0; d < padded_width; d += kLanes) sum += simd::Load(a + d) * simd::Load(b + d);
  return simd::HorizontalSum(sum);
}

// One (sequence, head) pair.
template <typename T, bool kEntropy>
class BackwardPair {
 public:
  static int64_t ScratchFloats(const AttentionShape& shape) {
    const int64_t width = shape.padded_width();
    return 4 * shape.padded_length() * width + 6 * kBlock * width + 2 * kBlock * kBlock;
  }

  BackwardPair(const AttentionBackwardArgs& args, const AttentionShape& shape, float* scratch,
               int64_t pair, float* dtemperature)
      : shape_(shape),
        qkv_(args.qkv.data<T>() + shape.QueryOffset(pair)),
        out_(args.out.data<T>() + shape.OutOffset(pair)),
        dout_(args.dout.data<T>() + shape.OutOffset(pair)),
        lse_(args.lse.data<float>() + pair * shape.length),
        lse_low_(args.lse_low ? args.lse_low.data<float>() + pair * shape.length : nullptr),
        entropy_(args.entropy.data<float>() + pair * shape.length),
        gradient_per_head_(args.entropy_gradient.num_dims() == 1),
        entropy_gradient_(kEntropy
                              ? args.entropy_gradient.data<float>() +
                                    (gradient_per_head_ ? pair % shape.heads : pair * shape.length)
                              : nullptr),
        dqkv_(args.dqkv.data<T>() + shape.QueryOffset(pair)),
        dtemperature_(dtemperature),
        queries_(shape, args.temperature, pair % shape.heads) {
    ScratchCutter cutter(scratch);
    const int64_t width = shape.padded_width();
    for (float** whole : {&keys_, &values_, &dkeys_, &dvalues_}) {
      *whole = cutter.Take(shape.padded_length() * width);
    }
    for (float** block :
         {&query_rows_, &query_columns_, &dout_rows_, &dout_columns_, &dqueries_, &out_row_}) {
      *block = cutter.Take(kBlock * width);
    }
    probs_ = cutter.Take(kBlock * kBlock);
    dscores_ = cutter.Take(kBlock * kBlock);
  }

  void Run() {
    const int64_t floats = shape_.padded_length() * shape_.padded_width();
    PackKeysAndValues(shape_, qkv_, keys_, values_);
    std::fill_n(dkeys_, floats, 0.0F);
    std::fill_n(dvalues_, floats, 0.0F);
    for (int64_t begin = 0; begin < shape_.length; begin += kBlock) QueryBlock(begin);
    WriteKeysAndValues();
  }

 private:
  void QueryBlock(int64_t begin) {
    const int64_t width = shape_.padded_width();
    TileShape tile{std::min(kBlock, shape_.length - begin), kBlock, width, false};
    queries_.Pack(qkv_, begin, tile.queries, query_rows_, query_columns_);
    PackOutputGradient(begin, tile.queries);
    std::fill_n(dqueries_, kBlock * width, 0.0F);
    for (int64_t key = 0; key <= begin; key += kBlock) {
      tile.diagonal = key == begin;
      if (tile.diagonal) tile.keys = tile.queries;
      Tile(tile, key, begin);
    }
    WriteQueries(begin, tile.queries);
  }

  void Tile(const TileShape& tile, int64_t key, int64_t query) {
    const int64_t at = key * shape_.padded_width();
    attention::TransposedScores(tile, keys_ + at, query_columns_, probs_);
    attention::TransposedScores(tile, values_ + at, dout_columns_, dscores_);
    ScoreGradientTile<kEntropy>(tile, rows_, probs_, dscores_);
    // A softmax over one score is constant; rounding must not say otherwise.
    if (query == 0) dscores_[0] = 0.0F;
    attention::AddOverQueries(tile, probs_, dout_rows_, dvalues_ + at);
    attention::AddOverQueries(tile, dscores_, query_rows_, dkeys_ + at);
    attention::AddOverKeys(tile, dscores_, keys_ + at, dqueries_);
  }

  void PackOutputGradient(int64_t begin, int64_t count) {
    const int64_t width = shape_.padded_width();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = begin + i;
      float* dout_row = dout_rows_ + i * width;
      attention::PackRow(dout_ + position * shape_.out_stride(), shape_.width, dout_row);
      attention::PackRow(out_ + position * shape_.out_stride(), shape_.width, out_row_);
      const float gradient = kEntropy ? entropy_gradient_[gradient_per_head_ ? 0 : position] : 0.0F;
      const float factor = queries_.Factor(position);
      rows_.factor[i] = factor;
      rows_.scale[i] = queries_.Scale(position);
      const double low = lse_low_ != nullptr ? lse_low_[position] : 0.0;
      const double log_sum = (lse_[position] + low) * std::numbers::log2e;
      rows_.log_sum[i] = static_cast<float>(log_sum);
      rows_.log_sum_low[i] = static_cast<float>(log_sum - rows_.log_sum[i]);
      rows_.entropy[i] = entropy_[position] * std::numbers::log2e_v<float>;
      rows_.offset[i] = factor * Dot(dout_row, out_row_, width);
      rows_.slope[i] = factor * gradient * kLn2;
      rows_.moment[i] = 0.0F;
    }
    attention::TransposeBlock(dout_rows_, count, width, dout_columns_);
  }

  void WriteQueries(int64_t begin, int64_t count) {
    const int64_t width = shape_.padded_width();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = begin + i;
      const float* dquery = dqueries_ + i * width;
      if (dtemperature_ != nullptr) {
        // The first query sees one key: exactly 0.
        dtemperature_[position] =
            position == 0 ? 0.0F
                          : -kLn2 * rows_.moment[i] /
                                (queries_.Temperature(position) * queries_.Factor(position));
      }
      attention::UnpackRow(dquery, 1.0F, shape_.width, dqkv_ + position * shape_.qkv_stride());
    }
  }

  void WriteKeysAndValues() {
    T* dkeys = dqkv_ + shape_.out_stride();
    T* dvalues = dkeys + shape_.out_stride();
    for (int64_t j = 0; j < shape_.length; ++j) {
      const int64_t from = j * shape_.padded_width();
      const int64_t to = j * shape_.qkv_stride();
      attention::UnpackRow(dkeys_ + from, 1.0F, shape_.width, dkeys + to);
      attention::UnpackRow(dvalues_ + from, 1.0F, shape_.width, dvalues + to);
    }
  }

  const AttentionShape& shape_;
  const T* qkv_;
  const T* out_;
  const T* dout_;
  const float* lse_;
  const float* lse_low_;
  const float* entropy_;
  bool gradient_per_head_;
  const float* entropy_gradient_;
  T* dqkv_;
  float* dtemperature_;
  HeadQueries queries_;
  float* keys_;
  float* values_;
  float* dkeys_;
  float* dvalues_;
  float* query_rows_;
  float* query_columns_;
  float* dout_rows_;
  float* dout_columns_;
  float* dqueries_;
  float* out_row_;
  float* probs_;
  float* dscores_;
  RowTerms rows_{};
};

// Partial results [B, H, T] of dtemperature, summed over the batch in order for each (head, query).
class TemperatureGradient {
 public:
  TemperatureGradient(const AttentionBackwardArgs& args, const AttentionShape& shape)
      : args_(args), shape_(shape) {
    if (args.dtemperature) partial_.resize(static_cast<size_t>(shape.pairs() * shape.length));
  }

  // Where a pair writes its rows' partial results; null when none are wanted.
  float* Pair(int64_t pair) {
    return partial_.empty() ? nullptr : partial_.data() + pair * shape_.length;
  }

  void Reduce(const Context& context) const {
    if (partial_.empty()) return;
    ParallelFor(context, shape_.heads, [&](int64_t head) {
      if (args_.dtemperature.num_dims() == 2) {
        ReducePerQuery(head);
      } else {
        ReducePerHead(head);
      }
    });
  }

 private:
  double SumOverBatch(int64_t head, int64_t position) const {
    double sum = 0.0;
    for (int64_t b = 0; b < shape_.batch; ++b) {
      const int64_t pair = b * shape_.heads + head;
      sum += partial_[static_cast<size_t>(pair * shape_.length + position)];
    }
    return sum;
  }

  void Put(float& to, double value) const {
    to = static_cast<float>(args_.accumulate ? to + value : value);
  }

  void ReducePerQuery(int64_t head) const {
    auto* row = args_.dtemperature.row<float>(head);
    for (int64_t i = 0; i < shape_.length; ++i) Put(row[i], SumOverBatch(head, i));
    for (int64_t i = shape_.length; i < args_.dtemperature.dim(1); ++i) Put(row[i], 0.0);
  }

  void ReducePerHead(int64_t head) const {
    double sum = 0.0;
    for (int64_t i = 0; i < shape_.length; ++i) sum += SumOverBatch(head, i);
    Put(args_.dtemperature.data<float>()[head], sum);
  }

  const AttentionBackwardArgs& args_;
  const AttentionShape& shape_;
  std::vector<float> partial_;
};

template <typename T, bool kEntropy>
void Backward(Context& context, const AttentionBackwardArgs& args) {
  using Pair = BackwardPair<T, kEntropy>;
  const AttentionShape shape(args.qkv);
  TemperatureGradient dtemperature(args, shape);
  ParallelForWithScratch(context, shape.pairs(), Pair::ScratchFloats(shape),
                         [&](float* scratch, int64_t pair) {
                           Pair(args, shape, scratch, pair, dtemperature.Pair(pair)).Run();
                         });
  dtemperature.Reduce(context);
}

}  // namespace

void AttentionBackward(Context& context, const AttentionBackwardArgs& args) {
  DispatchFloat(args.qkv.dtype(), [&](auto element) {
    using T = decltype(element);
    if (args.entropy_gradient) {
      Backward<T, true>(context, args);
    } else {
      Backward<T, false>(context, args);
    }
  });
}

}  // namespace entrain::cpu
