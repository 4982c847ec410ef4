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

// Σ exp(logit) = sum · 2^shift, shift the largest logit · log2 e.
struct Normalizer {
  float shift;
  double sum;
};

float BlockMax(const float* logits, int64_t size) {
  constexpr float kLeast = std::numeric_limits<float>::lowest();
  Float most = simd::Broadcast(kLeast);
  int64_t i = 0;
  for (; i + simd::kLanes <= size; i += simd::kLanes) {
    most = simd::Max(most, simd::Load(logits + i));
  }
  float result = simd::HorizontalMax(most);
  for (; i < size; ++i) result = std::max(result, logits[i]);
  return result;
}

// 2^(logit · log2 e − shift): each logit's exponential, shifted.
Float ShiftedExponential(Float logits, float shift) { return simd::Exp2(logits * kLog2E - shift); }

float BlockSum(const float* logits, int64_t size, float shift) {
  Float sum = simd::Zero();
  simd::ForEachVector(size, [&](int64_t i, auto lanes) {
    sum += lanes.Only(ShiftedExponential(lanes.Load(logits + i), shift));
  });
  return simd::HorizontalSum(sum);
}

Normalizer NormalizerOf(const float* logits, int64_t vocab) {
  Normalizer result = {.shift = std::numeric_limits<float>::lowest(), .sum = 0.0};
  for (int64_t begin = 0; begin < vocab; begin += kBlock) {
    const int64_t size = std::min(kBlock, vocab - begin);
    const float shift = std::max(result.shift, BlockMax(logits + begin, size) * kLog2E);
    if (shift > result.shift) result.sum *= std::exp2(double{result.shift} - shift);
    result.sum += BlockSum(logits + begin, size, shift);
    result.shift = shift;
  }
  return result;
}

// The difference of exponents is taken with the kLog2E of ShiftedExponential, so that its rounding cancels.
double Loss(const Normalizer& normalizer, float target_logit) {
  const double exponent = double{normalizer.shift} - double{target_logit} * double{kLog2E};
  return exponent / std::numbers::log2e + std::log(normalizer.sum);
}

// scale · softmax over [0, vocab), 0 in padding. Goes from front to back: element j of a bf16 row lies at or before
// element j of the fp32 row that it is laid over, so a vector is read before anything is written over it.
template <typename T>
void WriteGradient(const float* logits, T* dlogits, int64_t vocab, int64_t width, float shift,
                   float factor) {
  simd::ForEachVector(vocab, [&](int64_t i, auto lanes) {
    lanes.Store(dlogits + i, factor * ShiftedExponential(lanes.Load(logits + i), shift));
  });
  std::fill(dlogits + vocab, dlogits + width, T(0.0F));
}

template <typename T>
void Row(const CrossEntropyArgs& args, int64_t row) {
  const float* logits = args.logits.row<float>(row);
  const auto target = args.targets.data<int32_t>()[row];
  const float target_logit = logits[target];
  const Normalizer normalizer = NormalizerOf(logits, args.vocab);
  args.loss.data<float>()[row] = static_cast<float>(Loss(normalizer, target_logit));
  if (!args.dlogits) return;
  const auto inverse = static_cast<float>(1.0 / normalizer.sum);
  T* dlogits = args.dlogits.row<T>(row);
  WriteGradient(logits, dlogits, args.vocab, args.logits.dim(-1), normalizer.shift,
                args.scale * inverse);
  const float probability = inverse * std::exp2(target_logit * kLog2E - normalizer.shift);
  dlogits[target] = T(args.scale * (probability - 1.0F));
}

}  // namespace

void CrossEntropy(Context& context, const CrossEntropyArgs& args) {
  DispatchFloat(args.dlogits.dtype(), [&]<typename T>(T) {
    ParallelFor(context, args.logits.rows(), [&](int64_t row) { Row<T>(args, row); });
  });
}

}  // namespace entrain::cpu
