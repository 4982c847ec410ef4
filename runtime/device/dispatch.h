// The one place where a device becomes a backend: an op's `name.cc` checks its operands, then dispatches to cpu::Op
// (name_cpu.cc) or cuda::Op (name_cuda.cu). Nowhere else is it asked whether CUDA is built in.
#ifndef ENTRAIN_RUNTIME_DEVICE_DISPATCH_H_
#define ENTRAIN_RUNTIME_DEVICE_DISPATCH_H_

#include "runtime/base/check.h"
#include "runtime/device/context.h"

// Declares a function of every backend; inside namespace entrain.
#define ENTRAIN_BACKENDS(...) \
  namespace cpu {             \
  __VA_ARGS__;                \
  }                           \
  namespace cuda {            \
  __VA_ARGS__;                \
  }

// Returns what the function of the device's backend returns.
namespace entrain {
#ifdef ENTRAIN_CUDA
inline constexpr bool kCudaIsBuiltIn = true;
#define ENTRAIN_DISPATCH_ON(device, op, ...) \
  return (device) == DeviceKind::kCuda ? cuda::op(__VA_ARGS__) : cpu::op(__VA_ARGS__)
#else
inline constexpr bool kCudaIsBuiltIn = false;
// No context or memory of such a device is made.
#define ENTRAIN_DISPATCH_ON(device, op, ...)                                    \
  CHECK((device) == DeviceKind::kCpu) << #op ": no CUDA backend in this build"; \
  return cpu::op(__VA_ARGS__)
#endif
}  // namespace entrain

#define ENTRAIN_DISPATCH(op, context, ...) \
  ENTRAIN_DISPATCH_ON((context).device(), op, (context), __VA_ARGS__)

#endif  // ENTRAIN_RUNTIME_DEVICE_DISPATCH_H_
