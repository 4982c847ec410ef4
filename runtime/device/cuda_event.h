// CudaEvent: a point in a stream's work. Streams and the host wait for it or ask whether it is past; it knows its time.
#ifndef ENTRAIN_RUNTIME_DEVICE_CUDA_EVENT_H_
#define ENTRAIN_RUNTIME_DEVICE_CUDA_EVENT_H_

#include <cuda_runtime.h>

#include "runtime/device/cuda_check.h"

namespace entrain {

class CudaEvent {
 public:
  enum class Timing { kOff, kOn };

  explicit CudaEvent(Timing timing = Timing::kOff) {
    CHECK_CUDA(cudaEventCreateWithFlags(
        &event_, timing == Timing::kOn ? cudaEventDefault : cudaEventDisableTiming));
  }
  // The driver keeps what is not past yet.
  ~CudaEvent() { cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  // After all work issued to the stream so far.
  void Record(cudaStream_t stream) { CHECK_CUDA(cudaEventRecord(event_, stream)); }
  // The same and, in work that is being recorded into a graph, again in each run of that.
  void RecordEachRun(cudaStream_t stream) {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    CHECK_CUDA(cudaStreamIsCapturing(stream, &capture));
    const bool recording = capture == cudaStreamCaptureStatusActive;
    CHECK_CUDA(cudaEventRecordWithFlags(
        event_, stream, recording ? cudaEventRecordExternal : cudaEventRecordDefault));
  }
  // Work issued to the stream from now on begins after what was recorded last.
  void HoldUp(cudaStream_t stream) const { CHECK_CUDA(cudaStreamWaitEvent(stream, event_, 0)); }
  // The host does.
  void Wait() const { CHECK_CUDA(cudaEventSynchronize(event_)); }
  // Success, cudaErrorNotReady, or the error of work before.
  cudaError_t Query() const { return cudaEventQuery(event_); }
  bool IsPast() const {
    const cudaError_t state = Query();
    if (state == cudaErrorNotReady) return false;
    CheckCuda(state, "work before an event");
    return true;
  }
  // Both past, with timing.
  double SecondsSince(const CudaEvent& earlier) const {
    float milliseconds = 0.0F;
    CHECK_CUDA(cudaEventElapsedTime(&milliseconds, earlier.event_, event_));
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DEVICE_CUDA_EVENT_H_
