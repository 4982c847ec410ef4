#include "runtime/device/parallel_for.h"
#include "runtime/kernels/adamw.h"
#include "runtime/kernels/adamw_coefficients.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

using simd::Float;

constexpr int64_t kChunk = 16384;

struct Range {
  float* value;
  const float* gradient;
  float* first_moment;
  float* second_moment;
  Bf16* compute;  // or null
  int64_t size;
};

// By value, here and in the lambda: what lies in registers need not be read again after each store.
void UpdateRange(AdamWCoefficients c, Range range) {
  simd::ForEachVector(range.size, [c, range](int64_t i, auto lanes) {
    const Float gradient = lanes.Load(range.gradient + i) * c.gradient_scale;
    const Float first = c.beta1 * lanes.Load(range.first_moment + i) + c.one_minus_beta1 * gradient;
    const Float second =
        c.beta2 * lanes.Load(range.second_moment + i) + c.one_minus_beta2 * gradient * gradient;
    const Float update =
        c.first_correction * first / (simd::Sqrt(second * c.second_correction) + c.eps);
    const Float value = c.keep * lanes.Load(range.value + i) - update;
    lanes.Store(range.first_moment + i, first);
    lanes.Store(range.second_moment + i, second);
    lanes.Store(range.value + i, value);
    if (range.compute != nullptr) lanes.Store(range.compute + i, value);
  });
}

}  // namespace

void AdamW(Context& context, const AdamWArgs& args) {
  const AdamWCoefficients coefficients(args);
  auto* compute = args.compute ? args.compute.data<Bf16>() : nullptr;
  ParallelForChunks(context, args.value.size(), kChunk, [&](int64_t begin, int64_t end) {
    UpdateRange(coefficients, {.value = args.value.data<float>() + begin,
                               .gradient = args.gradient.data<float>() + begin,
                               .first_moment = args.first_moment.data<float>() + begin,
                               .second_moment = args.second_moment.data<float>() + begin,
                               .compute = compute == nullptr ? nullptr : compute + begin,
                               .size = end - begin});
  });
}

void ClampMin(Context& context, const TensorView& value, float minimum) {
  auto* data = value.data<float>();
  ParallelForChunks(context, value.size(), kChunk, [&](int64_t begin, int64_t end) {
    simd::ForEachVector(end - begin, [&](int64_t offset, auto lanes) {
      float* at = data + begin + offset;
      lanes.Store(at, simd::Max(simd::Broadcast(minimum), lanes.Load(at)));
    });
  });
}

}  // namespace entrain::cpu
