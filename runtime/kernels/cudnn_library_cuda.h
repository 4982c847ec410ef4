// cuDNN's functions that are used, found in the library when a program first wants it: programs start without cuDNN.
#ifndef ENTRAIN_RUNTIME_KERNELS_CUDNN_LIBRARY_CUDA_H_
#define ENTRAIN_RUNTIME_KERNELS_CUDNN_LIBRARY_CUDA_H_

#include <cudnn_graph.h>

#include <string>

#include "runtime/base/status.h"

namespace entrain::cudnn {

struct Functions {
  decltype(&cudnnGetVersion) get_version = nullptr;
  decltype(&cudnnGetErrorString) get_error_string = nullptr;
  decltype(&cudnnGetLastErrorString) get_last_error_string = nullptr;
  decltype(&cudnnCreate) create = nullptr;
  decltype(&cudnnDestroy) destroy = nullptr;
  decltype(&cudnnSetStream) set_stream = nullptr;
  decltype(&cudnnBackendCreateDescriptor) create_descriptor = nullptr;
  decltype(&cudnnBackendDestroyDescriptor) destroy_descriptor = nullptr;
  decltype(&cudnnBackendSetAttribute) set_attribute = nullptr;
  decltype(&cudnnBackendGetAttribute) get_attribute = nullptr;
  decltype(&cudnnBackendFinalize) finalize = nullptr;
  decltype(&cudnnBackendExecute) execute = nullptr;
};

// Finds the library at the first call. NotFound or FailedPrecondition: it is not here, or it is not one that will do.
absl::Status Load();
// Once Load has succeeded.
const Functions& Library();
// "9.19.0"; the same.
std::string Version();

}  // namespace entrain::cudnn

#endif  // ENTRAIN_RUNTIME_KERNELS_CUDNN_LIBRARY_CUDA_H_
