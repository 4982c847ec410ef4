// CHECK_CUDA: a call of the CUDA runtime that must not fail. When one does in mid-run the process ends, with the call and CUDA's
// own words; the job restarts from its last commit.
#ifndef ENTRAIN_RUNTIME_DEVICE_CUDA_CHECK_H_
#define ENTRAIN_RUNTIME_DEVICE_CUDA_CHECK_H_

#include <cuda_runtime.h>

#include "runtime/base/check.h"

namespace entrain {

inline void CheckCuda(cudaError_t error, const char* call) {
  CHECK(error == cudaSuccess) << "CUDA failed with " << cudaGetErrorName(error) << " ("
                              << cudaGetErrorString(error) << ") in " << call;
}

}  // namespace entrain

#define CHECK_CUDA(call) ::entrain::CheckCuda((call), #call)

#endif  // ENTRAIN_RUNTIME_DEVICE_CUDA_CHECK_H_
