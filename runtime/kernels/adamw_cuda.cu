#include <cmath>
#include <utility>

#include "runtime/kernels/adamw.h"
#include "runtime/kernels/adamw_coefficients.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elementwise.cuh"
#include "runtime/kernels/cuda_table.cuh"

namespace entrain::cuda {
namespace {

// A parameter, and the first of its tiles among those of all.
struct Parameter {
  float* value;
  const float* gradient;
  float* first_moment;
  float* second_moment;
  Bf16* compute;  // or null
  int64_t size;
  int64_t first_tile;
  float minimum;
  bool decayed;
  bool fours;
  bool operator==(const Parameter&) const = default;
};

struct Coefficients {
  AdamWConstants constants;
  float gradient_scale;
  float first_correction;
  float second_correction;
  float keep;
};

template <int n>
struct Elements {
  float value[n], gradient[n], first[n], second[n];

  __device__ __forceinline__ void Load(const Parameter& p, int64_t i) {
    LoadVector(p.value + i, value);
    LoadVector(p.gradient + i, gradient);
    LoadVector(p.first_moment + i, first);
    LoadVector(p.second_moment + i, second);
  }
  __device__ __forceinline__ void Update(const Parameter& p, const Coefficients& c) {
    const AdamWConstants& k = c.constants;
#pragma unroll
    for (int j = 0; j < n; ++j) {
      const float scaled = gradient[j] * c.gradient_scale;
      first[j] = k.beta1 * first[j] + k.one_minus_beta1 * scaled;
      second[j] = k.beta2 * second[j] + k.one_minus_beta2 * scaled * scaled;
      const float step =
          c.first_correction * first[j] / (sqrtf(second[j] * c.second_correction) + k.eps);
      const float updated = c.keep * value[j] - step;
      // A NaN stays.
      value[j] = updated < p.minimum ? p.minimum : updated;
    }
  }
  __device__ __forceinline__ void Store(const Parameter& p, int64_t i) const {
    StoreVector(p.first_moment + i, first);
    StoreVector(p.second_moment + i, second);
    StoreVector(p.value + i, value);
    if (p.compute != nullptr) StoreVector(p.compute + i, value);
  }
};

// Elements of a tile; those of one parameter only. All fours of a thread are read before one is written.
constexpr int kThreads = kElementThreads;
constexpr int64_t kTile = kElementTile;

__device__ __forceinline__ void UpdateTile(const Parameter& p, const Coefficients& c,
                                           int64_t begin) {
  const int64_t rest = p.size - begin;
  const auto thread = static_cast<int>(threadIdx.x);
  if (p.fours && rest >= kTile) {
    Elements<4> fours[kElementFours];
#pragma unroll
    for (int k = 0; k < kElementFours; ++k) fours[k].Load(p, begin + 4 * (k * kThreads + thread));
#pragma unroll
    for (int k = 0; k < kElementFours; ++k) {
      fours[k].Update(p, c);
      fours[k].Store(p, begin + 4 * (k * kThreads + thread));
    }
    return;
  }
  const auto count = static_cast<int>(rest < kTile ? rest : kTile);
  for (int i = thread; i < count; i += kThreads) {
    Elements<1> one;
    one.Load(p, begin + i);
    one.Update(p, c);
    one.Store(p, begin + i);
  }
}

// Block i updates tile i of all parameters' tiles.
__global__ void __launch_bounds__(kThreads)
    AdamWKernel(const Parameter* parameters, int count, AdamWConstants constants, const float* rate,
                const float* gradient_scale) {
  const float scale = *gradient_scale;
  if (std::isnan(scale)) return;
  const Parameter p = EntryOfBlock(parameters, count, &Parameter::first_tile, blockIdx.x);
  const Coefficients coefficients = {constants, scale, rate[0], rate[1],
                                     p.decayed ? rate[2] : 1.0F};
  UpdateTile(p, coefficients, (blockIdx.x - p.first_tile) * kTile);
}

Parameter EntryOf(const AdamWParameter& parameter, int64_t first_tile) {
  return {.value = parameter.value.data<float>(),
          .gradient = parameter.gradient.data<float>(),
          .first_moment = parameter.first_moment.data<float>(),
          .second_moment = parameter.second_moment.data<float>(),
          .compute = parameter.compute ? parameter.compute.data<Bf16>() : nullptr,
          .size = parameter.value.size(),
          .first_tile = first_tile,
          .minimum = parameter.minimum,
          .decayed = parameter.decayed,
          .fours = BeginAtFours(parameter.value, parameter.gradient, parameter.first_moment,
                                parameter.second_moment, parameter.compute)};
}

}  // namespace

void AdamW(Context& context, const AdamWArgs& args) {
  std::vector<Parameter> entries;
  int64_t tiles = 0;
  for (const AdamWParameter& parameter : args.parameters) {
    if (parameter.value.size() == 0) continue;
    entries.push_back(EntryOf(parameter, tiles));
    tiles += (parameter.value.size() + kTile - 1) / kTile;
  }
  if (entries.empty()) return;
  const auto count = static_cast<int>(entries.size());
  const Parameter* table = context.Cache<CudaTable<Parameter>>().Put(context, std::move(entries));
  Launch(AdamWKernel, static_cast<unsigned>(tiles), kThreads, 0, context.cuda().stream, table,
         count, AdamWConstants(args), args.rate.data<float>(), args.gradient_scale.data<float>());
}

}  // namespace entrain::cuda
