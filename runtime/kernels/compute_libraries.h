// Which libraries compute a context's ops, beside this program's own kernels: another version may give other last bits.
#ifndef ENTRAIN_RUNTIME_KERNELS_COMPUTE_LIBRARIES_H_
#define ENTRAIN_RUNTIME_KERNELS_COMPUTE_LIBRARIES_H_

#include <string>

#include "runtime/device/context.h"

namespace entrain {

// "oneDNN 2.6.3"; "cuBLASLt 13.1.0, cuDNN 9.19.0": cuDNN where the context has been told to use it.
std::string ComputeLibraries(Context& context);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_KERNELS_COMPUTE_LIBRARIES_H_
