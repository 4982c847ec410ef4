// The one place where a device becomes a backend: an op's `name.cc` checks its operands, then dispatches to
// cpu::Op (name_cpu.cc).
#ifndef ENTRAIN_RUNTIME_KERNELS_DISPATCH_H_
#define ENTRAIN_RUNTIME_KERNELS_DISPATCH_H_

#include "runtime/device/context.h"

#define ENTRAIN_DISPATCH(op, context, ...)      \
  do {                                          \
    switch ((context).device()) {               \
      case DeviceKind::kCpu:                    \
        return cpu::op((context), __VA_ARGS__); \
    }                                           \
  } while (false)

#endif  // ENTRAIN_RUNTIME_KERNELS_DISPATCH_H_
