#include "runtime/kernels/compute_libraries.h"

#include "runtime/device/dispatch.h"

namespace entrain {
ENTRAIN_BACKENDS(std::string ComputeLibraries(Context& context))

std::string ComputeLibraries(Context& context) {
  ENTRAIN_DISPATCH_ON(context.device(), ComputeLibraries, context);
}

}  // namespace entrain
