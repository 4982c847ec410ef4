#include <cuda_runtime.h>

#include <map>

#include "runtime/device/cuda_check.h"
#include "runtime/device/cuda_device.h"
#include "runtime/device/op_graph.h"

namespace entrain::cuda {
namespace {

// What was recorded for a key.
struct Recording {
  Recording() = default;
  ~Recording() { Forget(); }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  void Forget() {
    if (exec != nullptr) cudaGraphExecDestroy(exec);
    exec = nullptr;
  }

  void Record(cudaStream_t stream, const std::function<void()>& issue) {
    // Other threads may use the device meanwhile, for a checkpoint.
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    issue();
    cudaGraph_t graph = nullptr;
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
    CHECK_CUDA(cudaGraphDestroy(graph));
  }

  bool issued = false;
  int64_t buffers_freed = 0;  // by the end of the last run
  cudaGraphExec_t exec = nullptr;
};

using Recordings = std::map<uint64_t, Recording>;

}  // namespace

void RunOps(Context& context, std::shared_ptr<void>& recorded, uint64_t key,
            const std::function<void()>& issue) {
  if (!recorded) recorded = std::make_shared<Recordings>();
  Recording& recording = (*static_cast<Recordings*>(recorded.get()))[key];
  if (!recording.issued || recording.buffers_freed != CudaBuffersFreed()) {
    recording.Forget();
    issue();
    recording.issued = true;
    recording.buffers_freed = CudaBuffersFreed();
    return;
  }
  const cudaStream_t stream = context.cuda().stream;
  if (recording.exec == nullptr) recording.Record(stream, issue);
  CHECK_CUDA(cudaGraphLaunch(recording.exec, stream));
}

}  // namespace entrain::cuda
