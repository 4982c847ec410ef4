// Stream capture and graphs.
#include <memory>
#include <utility>

#include "tests/support/emulated_gpu/streams.h"

namespace {

using entrain::emulated::Lock;
using entrain::emulated::Result;
using entrain::emulated::Step;
using entrain::emulated::TakeLock;

}  // namespace

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  const Lock lock = TakeLock();
  cudaStream_t stream = entrain::emulated::Find(handle);
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  // The legacy default stream cannot be captured.
  if (stream != handle) return Result(cudaErrorStreamCaptureUnsupported);
  if (stream->capture != nullptr) return Result(cudaErrorIllegalState);
  stream->capture = new CUgraph_st();
  stream->capture->thread = std::this_thread::get_id();
  stream->capture_origin = true;
  stream->capture_mode = mode;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const Lock lock = TakeLock();
  cudaStream_t stream = entrain::emulated::Find(handle);
  *graph = nullptr;
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  if (stream->capture == nullptr) return Result(cudaErrorIllegalState);
  if (!stream->capture_origin) return Result(cudaErrorStreamCaptureUnmatched);
  CUgraph_st* captured = stream->capture;
  entrain::emulated::LeaveCapture(captured);
  if (!captured->valid) {
    delete captured;
    return Result(cudaErrorStreamCaptureInvalidated);
  }
  *graph = captured;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  const Lock lock = TakeLock();
  cudaStream_t stream = entrain::emulated::Find(handle);
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  *status = cudaStreamCaptureStatusNone;
  if (stream->capture != nullptr) {
    *status =
        stream->capture->valid ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusInvalidated;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  const Lock lock = TakeLock();
  if (nodes != nullptr) return Result(cudaErrorNotSupported);
  *count = graph->steps.size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph,
                                 unsigned long long /*flags*/) {
  const Lock lock = TakeLock();
  if (graph == nullptr) return Result(cudaErrorInvalidValue);
  *exec = new CUgraphExec_st{.steps = graph->steps};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t /*exec*/, cudaStream_t /*stream*/) {
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  Lock lock = TakeLock();
  if (exec == nullptr) return Result(cudaErrorInvalidValue);
  for (const Step& step : exec->steps) {
    const cudaError_t error = entrain::emulated::Add(lock, stream, step);
    if (error != cudaSuccess) return Result(error);
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  const Lock lock = TakeLock();
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const Lock lock = TakeLock();
  delete exec;
  return cudaSuccess;
}
