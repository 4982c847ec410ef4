#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/cross_entropy.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

using simd::Float;

// Logits of a block: its maximum is found and its exponentials are summed while it is in the first-level cache. Blocks'
// sums meet in fp64.
constexpr int64_t kBlock = 1024;
constexpr float kLog2E = std::numbers::log2e_v<float>;

// Σ exp(logit) = sum · exp(max), max the largest logit.
struct Normalizer {
  float max;
  double sum;
};

template <typename L>
float BlockMax(const L* logits, int64_t size) {
  constexpr float kLeast = std::numeric_limits<float>::lowest();
  Float most = simd::Broadcast(kLeast);
  int64_t i = 0;
  for (; i + simd::kLanes <= size; i += simd::kLanes) {
    most = simd::Max(most, simd::Load(logits + i));
  }
  float result = simd::HorizontalMax(most);
  for (; i < size; ++i) result = std::max(result, static_cast<float>(logits[i]));
  return result;
}

// exp(logit − max). The difference comes first: logits far from 0 lose nothing.
Float ShiftedExponential(Float logits, float max) { return simd::Exp2((logits - max) * kLog2E); }

template <typename L>
float BlockSum(const L* logits, int64_t size, float max) {
  Float sum = simd::Zero();
  simd::ForEachVector(size, [&](int64_t i, auto lanes) {
    sum += lanes.Only(ShiftedExponential(lanes.Load(logits + i), max));
  });
  return simd::HorizontalSum(sum);
}

template <typename L>
Normalizer NormalizerOf(const L* logits, int64_t vocab) {
  Normalizer result = {.max = std::numeric_limits<float>::lowest(), .sum = 0.0};
  for (int64_t begin = 0; begin < vocab; begin += kBlock) {
    const int64_t size = std::min(kBlock, vocab - begin);
    const float max = std::max(result.max, BlockMax(logits + begin, size));
    if (max > result.max) result.sum *= std::exp(double{result.max} - max);
    result.sum += BlockSum(logits + begin, size, max);
    result.max = max;
  }
  return result;
}

// scale · softmax over [0, vocab), 0 in padding. Goes from front to back: element j of a row of gradients lies at or before
// element j of the row of logits that it is laid over, so a vector is read before anything is written over it.
template <typename L, typename T>
void WriteGradient(const L* logits, T* dlogits, int64_t vocab, int64_t width, float max,
                   float factor) {
  simd::ForEachVector(vocab, [&](int64_t i, auto lanes) {
    lanes.Store(dlogits + i, factor * ShiftedExponential(lanes.Load(logits + i), max));
  });
  std::fill(dlogits + vocab, dlogits + width, T(0.0F));
}

// Column of a row's target, −1 when it is not among these.
int64_t TargetColumn(const VocabRange& vocab, const TensorView& targets, int64_t row) {
  const int64_t column = targets.data<int32_t>()[row] - vocab.first_token;
  return 0 <= column && column < vocab.count ? column : -1;
}

template <typename L, typename T>
void GradientRow(const CrossEntropyArgs& args, int64_t row) {
  const L* logits = args.logits.row<L>(row);
  const float max = args.max.data<float>()[row];
  const auto inverse = static_cast<float>(1.0 / args.sum.data<double>()[row]);
  const int64_t target = TargetColumn(args.vocab, args.targets, row);
  const float target_logit = target < 0 ? max : static_cast<float>(logits[target]);
  T* dlogits = args.dlogits.row<T>(row);
  WriteGradient(logits, dlogits, args.vocab.count, args.logits.dim(-1), max, args.scale * inverse);
  if (target < 0) return;
  const float probability = inverse * std::exp(target_logit - max);
  dlogits[target] = T(args.scale * (probability - 1.0F));
}

}  // namespace

void SoftmaxStatistics(Context& context, const SoftmaxStatisticsArgs& args) {
  DispatchFloat(args.logits.dtype(), [&]<typename L>(L) {
    ParallelFor(context, args.logits.rows(), [&](int64_t row) {
      const L* logits = args.logits.row<L>(row);
      const Normalizer normalizer = NormalizerOf(logits, args.vocab.count);
      const int64_t target = TargetColumn(args.vocab, args.targets, row);
      args.max.data<float>()[row] = normalizer.max;
      args.sum.data<double>()[row] = normalizer.sum;
      args.target.data<double>()[row] =
          target < 0 ? 0.0 : double{static_cast<float>(logits[target])};
    });
  });
}

void SoftmaxRescale(Context& /*context*/, const SoftmaxRescaleArgs& args) {
  auto* sum = args.sum.data<double>();
  const auto* from = args.from.data<float>();
  const auto* to = args.to.data<float>();
  for (int64_t row = 0; row < args.sum.size(); ++row) {
    sum[row] *= std::exp(double{from[row]} - double{to[row]});
  }
}

void CrossEntropy(Context& context, const CrossEntropyArgs& args) {
  auto* loss = args.loss.data<float>();
  const auto* max = args.max.data<float>();
  const auto* sum = args.sum.data<double>();
  const auto* target = args.target.data<double>();
  DispatchFloat(args.logits.dtype(), [&]<typename L>(L) {
    DispatchFloat(args.dlogits.dtype(), [&]<typename T>(T) {
      ParallelFor(context, args.logits.rows(), [&](int64_t row) {
        loss[row] = static_cast<float>(double{max[row]} - target[row] + std::log(sum[row]));
        if (args.dlogits) GradientRow<L, T>(args, row);
      });
    });
  });
}

void WholeCrossEntropy(Context& context, const CrossEntropyArgs& args) {
  entrain::SoftmaxStatistics(context, args.statistics());
  entrain::CrossEntropy(context, args);
}

}  // namespace entrain::cpu
