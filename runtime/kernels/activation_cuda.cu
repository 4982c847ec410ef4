#include <numbers>

#include "runtime/kernels/activation.h"
#include "runtime/kernels/cuda_elementwise.cuh"

namespace entrain::cuda {
namespace {

constexpr float kCubic = 0.044715F;
constexpr float kTwiceSqrtTwoOverPi = 1.5957691216057308F;

// Beyond ±10 gelu is x or 0 and its derivative 1 or 0 to fp32; e^{-2u} would overflow soon after. A NaN goes through.
__device__ __forceinline__ float Bound(float x) {
  const float above = x < -10.0F ? -10.0F : x;
  return above > 10.0F ? 10.0F : above;
}

// e^{-2u}, u = √(2/π)(x + 0.044715x³): (1 + tanh u)/2 = 1/(1 + e^{-2u}), which loses nothing to cancellation where
// tanh u is near −1.
__device__ __forceinline__ float GeluExponential(float bounded) {
  constexpr float kFactor = -kTwiceSqrtTwoOverPi * std::numbers::log2e_v<float>;
  const float square = bounded * bounded;
  return Exp2((kFactor * bounded) * (1.0F + kCubic * square));
}

struct Gelu {
  static __device__ __forceinline__ float Value(float x) {
    return x / (1.0F + GeluExponential(Bound(x)));
  }
  static __device__ __forceinline__ float Derivative(float x) {
    const float bounded = Bound(x);
    const float exponential = GeluExponential(bounded);
    const float sigmoid = 1.0F / (1.0F + exponential);
    const float twice_du = kTwiceSqrtTwoOverPi * (1.0F + 3.0F * kCubic * bounded * bounded);
    return sigmoid + bounded * twice_du * sigmoid * (exponential * sigmoid);
  }
};

struct Relu {
  // A NaN goes through.
  static __device__ __forceinline__ float Value(float x) { return x < 0.0F ? 0.0F : x; }
  static __device__ __forceinline__ float Derivative(float x) { return x > 0.0F ? 1.0F : 0.0F; }
};

template <typename Kind, typename T>
struct Forward {
  static constexpr int kInputs = 1;
  const T* x;
  T* out;

  template <int n>
  __device__ __forceinline__ void Load(int64_t i, float (&values)[1][n]) const {
    LoadVector(x + i, values[0]);
  }
  template <int n>
  __device__ __forceinline__ void Store(int64_t i, const float (&values)[1][n]) const {
    float result[n];
#pragma unroll
    for (int j = 0; j < n; ++j) result[j] = Kind::Value(values[0][j]);
    StoreVector(out + i, result);
  }
};

template <typename Kind, typename T>
struct Backward {
  static constexpr int kInputs = 2;
  const T* x;
  const T* dout;
  T* dx;

  template <int n>
  __device__ __forceinline__ void Load(int64_t i, float (&values)[2][n]) const {
    LoadVector(x + i, values[0]);
    LoadVector(dout + i, values[1]);
  }
  template <int n>
  __device__ __forceinline__ void Store(int64_t i, const float (&values)[2][n]) const {
    float result[n];
#pragma unroll
    for (int j = 0; j < n; ++j) result[j] = values[1][j] * Kind::Derivative(values[0][j]);
    StoreVector(dx + i, result);
  }
};

template <typename F>
void DispatchKind(Activation kind, F&& function) {
  if (kind == Activation::kGelu) {
    function(Gelu{});
  } else {
    function(Relu{});
  }
}

}  // namespace

void ActivationForward(Context& context, const ActivationForwardArgs& args) {
  DispatchFloat(args.x.dtype(), [&]<typename T>(T) {
    DispatchKind(args.kind, [&]<typename Kind>(Kind) {
      ForEachElement(context, args.x.size(), BeginAtFours(args.x, args.out),
                     Forward<Kind, T>{args.x.data<T>(), args.out.data<T>()});
    });
  });
}

void ActivationBackward(Context& context, const ActivationBackwardArgs& args) {
  DispatchFloat(args.x.dtype(), [&]<typename T>(T) {
    DispatchKind(args.kind, [&]<typename Kind>(Kind) {
      ForEachElement(context, args.x.size(), BeginAtFours(args.x, args.dout, args.dx),
                     Backward<Kind, T>{args.x.data<T>(), args.dout.data<T>(), args.dx.data<T>()});
    });
  });
}

}  // namespace entrain::cuda
