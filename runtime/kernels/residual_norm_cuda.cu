#include "runtime/kernels/layernorm_cuda.cuh"
#include "runtime/kernels/residual_cuda.cuh"
#include "runtime/kernels/residual_norm.h"

namespace entrain::cuda {
namespace {

// Rows that are sums, made as they are read.
struct RowsOfSum {
  static constexpr int kInputs = 2;
  ResidualSum<float> sum;

  __device__ __forceinline__ void Prepare() { sum.Prepare(); }
  __device__ __forceinline__ void Load(int64_t i, float (&in)[2][4]) const { sum.Load(i, in); }
  __device__ __forceinline__ void Make(const float (&in)[2][4], float (&values)[4]) const {
    sum.Add(in, values);
  }
  __device__ __forceinline__ void Keep(int64_t i, const float (&values)[4]) const {
    Store4(sum.out + i, values);
  }
};

// An op of ForEachElement: the sum, and a copy.
template <typename C>
struct SumAndCopy {
  static constexpr int kInputs = 2;
  ResidualSum<float> sum;
  C* copy;

  __device__ __forceinline__ void Prepare() { sum.Prepare(); }
  template <int n>
  __device__ __forceinline__ void Load(int64_t i, float (&values)[2][n]) const {
    sum.Load(i, values);
  }
  template <int n>
  __device__ __forceinline__ void Store(int64_t i, const float (&values)[2][n]) const {
    float result[n];
    sum.Add(values, result);
    StoreVector(sum.out + i, result);
    StoreVector(copy + i, result);
  }
};

ResidualSum<float> SumOfArgs(const ResidualForwardArgs& args) {
  return {.y = args.y.data<float>(),
          .f = args.f.data<float>(),
          .scalars = ResidualScalars(args.alpha, args.beta),
          .out = args.out.data<float>()};
}

}  // namespace

void ResidualNormForward(Context& context, const ResidualNormForwardArgs& args) {
  const ResidualForwardArgs& sum = args.sum;
  const LayerNormForwardArgs norm = {.x = sum.out,
                                     .gain = args.gain,
                                     .bias = args.bias,
                                     .out = args.normed,
                                     .mean = args.mean,
                                     .rstd = args.rstd};
  if (sum.y.rows() == 0) return;
  if (args.gain && !(FitsRegisters(norm) && FoursFit(sum.y) && FoursFit(sum.f))) {
    entrain::ResidualForward(context, sum);
    return entrain::LayerNormForward(context, norm);
  }
  DispatchFloat(args.normed.dtype(), [&]<typename T>(T) {
    if (args.gain) {
      LaunchLayerNorm(context, RowsOfSum{SumOfArgs(sum)}, LayerNormOperands<T>(norm));
    } else {
      ForEachElement(context, sum.y.size(), BeginAtFours(sum.y, sum.f, sum.out, args.normed),
                     SumAndCopy<T>{SumOfArgs(sum), args.normed.data<T>()});
    }
  });
}

}  // namespace entrain::cuda
