#include <numbers>

#include "runtime/kernels/attention_cpu.h"

namespace entrain::cpu {
namespace {

using simd::Float;
using simd::kLanes;

constexpr double kLn2 = std::numbers::ln2;

// One head's new position against its cache. The scores of one query are a row of `length`, so
// softmax takes its maximum first and needs no running rescale.
template <typename T>
class DecodeHead {
 public:
  static int64_t ScratchFloats(const AttentionDecodeArgs& args) {
    return attention::PaddedWidth(args.length) + 2 * attention::PaddedWidth(args.q.dim(1)) +
           2 * Buffer::kAlignment;
  }

  DecodeHead(const AttentionDecodeArgs& args, float* scratch, int64_t head)
      : args_(args),
        head_(head),
        width_(args.q.dim(1)),
        stride_(args.q.size()),
        keys_(args.keys.data<T>() + head * width_),
        values_(args.values.data<T>() + head * width_) {
    ScratchCutter cutter(scratch);
    query_ = cutter.Take(attention::PaddedWidth(width_));
    sums_ = cutter.Take(attention::PaddedWidth(width_));
    scores_ = cutter.Take(attention::PaddedWidth(args.length));
  }

  void Run() {
    PackQuery();
    Score();
    Softmax();
    AddValues();
    attention::UnpackRow(sums_, 1.0F / sum_, width_, args_.out.row<T>(head_));
    args_.entropy.data<float>()[head_] =
        static_cast<float>(kLn2 * (std::log2(static_cast<double>(sum_)) + weighted_ / sum_));
  }

 private:
  void PackQuery() {
    float temperature = 1.0F;
    if (args_.temperature) {
      const bool per_query = args_.temperature.num_dims() == 2;
      temperature = per_query ? args_.temperature.row<float>(head_)[args_.length - 1]
                              : args_.temperature.data<float>()[head_];
    }
    scale_ = std::numbers::log2e_v<float> / (temperature * std::sqrt(static_cast<float>(width_)));
    attention::PackRow(args_.q.row<T>(head_), width_, query_);
  }

  void Score() {
    for (int64_t j = 0; j < args_.length; ++j) {
      const T* key = keys_ + j * stride_;
      Float sum = simd::Zero();
      simd::ForEachVector(width_, [&](int64_t d, auto lanes) {
        sum += lanes.Load(key + d) * simd::Load(query_ + d);
      });
      scores_[j] = simd::HorizontalSum(sum);
    }
    std::fill(scores_ + args_.length, scores_ + attention::PaddedWidth(args_.length),
              attention::kMasked);
  }

  // q·k → 2^x with x = (q·k − maximum)·scale; their sum, and −Σ 2^x·x.
  void Softmax() {
    const int64_t padded = attention::PaddedWidth(args_.length);
    Float maxima = simd::Zero() + attention::kMasked;
    for (int64_t j = 0; j < padded; j += kLanes)
      maxima = simd::Max(simd::Load(scores_ + j), maxima);
    const float maximum = simd::HorizontalMax(maxima);
    Float sum = simd::Zero();
    Float weighted = simd::Zero();
    for (int64_t j = 0; j < padded; j += kLanes) {
      const Float x = (simd::Load(scores_ + j) - maximum) * scale_;
      const Float power = simd::Exp2(x);
      sum += power;
      weighted -= power * x;
      simd::Store(scores_ + j, power);
    }
    sum_ = simd::HorizontalSum(sum);
    weighted_ = simd::HorizontalSum(weighted);
  }

  void AddValues() {
    std::fill_n(sums_, attention::PaddedWidth(width_), 0.0F);
    for (int64_t j = 0; j < args_.length; ++j) {
      const T* value = values_ + j * stride_;
      simd::ForEachVector(width_, [&](int64_t d, auto lanes) {
        simd::Store(sums_ + d, simd::Load(sums_ + d) + lanes.Load(value + d) * scores_[j]);
      });
    }
  }

  const AttentionDecodeArgs& args_;
  int64_t head_;
  int64_t width_;
  int64_t stride_;  // elements between positions of the cache
  const T* keys_;
  const T* values_;
  float* query_ = nullptr;
  float* sums_ = nullptr;
  float* scores_ = nullptr;
  float scale_ = 0.0F;  // log2(e)/(t√D)
  float sum_ = 0.0F;
  float weighted_ = 0.0F;
};

}  // namespace

void AttentionDecode(Context& context, const AttentionDecodeArgs& args) {
  DispatchFloat(args.q.dtype(), [&](auto element) {
    using T = decltype(element);
    ParallelForWithScratch(
        context, args.q.dim(0), DecodeHead<T>::ScratchFloats(args),
        [&](float* scratch, int64_t head) { DecodeHead<T>(args, scratch, head).Run(); });
  });
}

}  // namespace entrain::cpu
