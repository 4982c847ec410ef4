#include <cmath>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/adamw.h"
#include "runtime/kernels/adamw_coefficients.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

using simd::Float;

constexpr int64_t kChunk = 16384;

struct Coefficients {
  AdamWConstants constants;
  float gradient_scale;
  float first_correction;
  float second_correction;
  float keep;  // 1 − lr·weight_decay, or 1
  float minimum;
};

struct Range {
  float* value;
  const float* gradient;
  float* first_moment;
  float* second_moment;
  Bf16* compute;  // or null
  int64_t size;
};

// By value, here and in the lambda: what lies in registers need not be read again after each store.
void UpdateRange(Coefficients c, Range range) {
  const AdamWConstants& k = c.constants;
  simd::ForEachVector(range.size, [c, k, range](int64_t i, auto lanes) {
    const Float gradient = lanes.Load(range.gradient + i) * c.gradient_scale;
    const Float first = k.beta1 * lanes.Load(range.first_moment + i) + k.one_minus_beta1 * gradient;
    const Float second =
        k.beta2 * lanes.Load(range.second_moment + i) + k.one_minus_beta2 * gradient * gradient;
    const Float update =
        c.first_correction * first / (simd::Sqrt(second * c.second_correction) + k.eps);
    // A NaN stays.
    const Float value =
        simd::Max(simd::Broadcast(c.minimum), c.keep * lanes.Load(range.value + i) - update);
    lanes.Store(range.first_moment + i, first);
    lanes.Store(range.second_moment + i, second);
    lanes.Store(range.value + i, value);
    if (range.compute != nullptr) lanes.Store(range.compute + i, value);
  });
}

void UpdateParameter(Context& context, const Coefficients& coefficients,
                     const AdamWParameter& parameter) {
  auto* compute = parameter.compute ? parameter.compute.data<Bf16>() : nullptr;
  ParallelForChunks(context, parameter.value.size(), kChunk, [&](int64_t begin, int64_t end) {
    UpdateRange(coefficients, {.value = parameter.value.data<float>() + begin,
                               .gradient = parameter.gradient.data<float>() + begin,
                               .first_moment = parameter.first_moment.data<float>() + begin,
                               .second_moment = parameter.second_moment.data<float>() + begin,
                               .compute = compute == nullptr ? nullptr : compute + begin,
                               .size = end - begin});
  });
}

}  // namespace

void AdamW(Context& context, const AdamWArgs& args) {
  const float scale = *args.gradient_scale.data<float>();
  if (std::isnan(scale)) return;
  const auto* rate = args.rate.data<float>();
  for (const AdamWParameter& parameter : args.parameters) {
    UpdateParameter(context,
                    {.constants = AdamWConstants(args),
                     .gradient_scale = scale,
                     .first_correction = rate[0],
                     .second_correction = rate[1],
                     .keep = parameter.decayed ? rate[2] : 1.0F,
                     .minimum = parameter.minimum},
                    parameter);
  }
}

}  // namespace entrain::cpu
