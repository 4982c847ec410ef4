#include <numbers>

#include "runtime/device/parallel_for.h"
#include "runtime/kernels/activation.h"
#include "runtime/kernels/simd.h"

namespace entrain::cpu {
namespace {

using simd::Float;

constexpr int64_t kChunk = 8192;

constexpr float kCubic = 0.044715F;
constexpr float kTwiceSqrtTwoOverPi = 1.5957691216057308F;

// Beyond ±10 gelu is x or 0 and its derivative 1 or 0 to fp32; e^{-2u} would overflow soon after. A NaN goes through.
Float Bound(Float x) {
  return simd::Min(simd::Broadcast(10.0F), simd::Max(simd::Broadcast(-10.0F), x));
}

// e^{-2u}, u = √(2/π)(x + 0.044715x³): (1 + tanh u)/2 = 1/(1 + e^{-2u}), which loses nothing to cancellation where
// tanh u is near −1.
Float GeluExponential(Float bounded) {
  constexpr float kFactor = -kTwiceSqrtTwoOverPi * std::numbers::log2e_v<float>;
  const Float square = bounded * bounded;
  return simd::Exp2((kFactor * bounded) * (1.0F + kCubic * square));
}

struct Gelu {
  static Float Value(Float x) { return x / (1.0F + GeluExponential(Bound(x))); }
  static Float Derivative(Float x) {
    const Float bounded = Bound(x);
    const Float exponential = GeluExponential(bounded);
    const Float sigmoid = 1.0F / (1.0F + exponential);
    const Float twice_du = kTwiceSqrtTwoOverPi * (1.0F + 3.0F * kCubic * bounded * bounded);
    return sigmoid + bounded * twice_du * sigmoid * (exponential * sigmoid);
  }
};

struct Relu {
  // Max gives its second operand where one is NaN: a NaN goes through.
  static Float Value(Float x) { return simd::Max(simd::Zero(), x); }
  static Float Derivative(Float x) { return x > 0.0F ? simd::Broadcast(1.0F) : simd::Zero(); }
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
    const T* x = args.x.data<T>();
    T* out = args.out.data<T>();
    DispatchKind(args.kind, [&]<typename Kind>(Kind) {
      ParallelForChunks(context, args.x.size(), kChunk, [&](int64_t begin, int64_t end) {
        simd::ForEachVector(end - begin, [&](int64_t i, auto lanes) {
          lanes.Store(out + begin + i, Kind::Value(lanes.Load(x + begin + i)));
        });
      });
    });
  });
}

void ActivationBackward(Context& context, const ActivationBackwardArgs& args) {
  DispatchFloat(args.x.dtype(), [&]<typename T>(T) {
    const T* x = args.x.data<T>();
    const T* dout = args.dout.data<T>();
    T* dx = args.dx.data<T>();
    DispatchKind(args.kind, [&]<typename Kind>(Kind) {
      ParallelForChunks(context, args.x.size(), kChunk, [&](int64_t begin, int64_t end) {
        simd::ForEachVector(end - begin, [&](int64_t i, auto lanes) {
          const Float derivative = Kind::Derivative(lanes.Load(x + begin + i));
          lanes.Store(dx + begin + i, lanes.Load(dout + begin + i) * derivative);
        });
      });
    });
  });
}

}  // namespace entrain::cpu
