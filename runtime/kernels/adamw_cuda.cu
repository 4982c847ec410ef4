#include "runtime/kernels/adamw.h"
#include "runtime/kernels/adamw_coefficients.h"
#include "runtime/kernels/cuda_elementwise.cuh"

namespace entrain::cuda {
namespace {

struct Update {
  static constexpr int kInputs = 4;
  AdamWCoefficients c;
  float* value;
  const float* gradient;
  float* first_moment;
  float* second_moment;
  Bf16* compute;  // or null

  template <int n>
  __device__ __forceinline__ void Load(int64_t i, float (&in)[4][n]) const {
    LoadVector(value + i, in[0]);
    LoadVector(gradient + i, in[1]);
    LoadVector(first_moment + i, in[2]);
    LoadVector(second_moment + i, in[3]);
  }

  template <int n>
  __device__ __forceinline__ void Store(int64_t i, const float (&in)[4][n]) const {
    float first[n], second[n], updated[n];
#pragma unroll
    for (int j = 0; j < n; ++j) {
      const float scaled = in[1][j] * c.gradient_scale;
      first[j] = c.beta1 * in[2][j] + c.one_minus_beta1 * scaled;
      second[j] = c.beta2 * in[3][j] + c.one_minus_beta2 * scaled * scaled;
      const float step =
          c.first_correction * first[j] / (sqrtf(second[j] * c.second_correction) + c.eps);
      updated[j] = c.keep * in[0][j] - step;
    }
    StoreVector(first_moment + i, first);
    StoreVector(second_moment + i, second);
    StoreVector(value + i, updated);
    if (compute != nullptr) StoreVector(compute + i, updated);
  }
};

struct Clamp {
  static constexpr int kInputs = 1;
  float* value;
  float minimum;

  template <int n>
  __device__ __forceinline__ void Load(int64_t i, float (&in)[1][n]) const {
    LoadVector(value + i, in[0]);
  }
  // A NaN stays.
  template <int n>
  __device__ __forceinline__ void Store(int64_t i, const float (&in)[1][n]) const {
    float clamped[n];
#pragma unroll
    for (int j = 0; j < n; ++j) clamped[j] = in[0][j] < minimum ? minimum : in[0][j];
    StoreVector(value + i, clamped);
  }
};

}  // namespace

void AdamW(Context& context, const AdamWArgs& args) {
  const bool fours =
      BeginAtFours(args.value, args.gradient, args.first_moment, args.second_moment, args.compute);
  ForEachElement(context, args.value.size(), fours,
                 Update{.c = AdamWCoefficients(args),
                        .value = args.value.data<float>(),
                        .gradient = args.gradient.data<float>(),
                        .first_moment = args.first_moment.data<float>(),
                        .second_moment = args.second_moment.data<float>(),
                        .compute = args.compute ? args.compute.data<Bf16>() : nullptr});
}

void ClampMin(Context& context, const TensorView& value, float minimum) {
  ForEachElement(context, value.size(), BeginAtFours(value),
                 Clamp{.value = value.data<float>(), .minimum = minimum});
}

}  // namespace entrain::cuda
