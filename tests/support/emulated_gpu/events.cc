// Events: records of streams' work, whose times are the host's.
#include <memory>

#include "tests/support/emulated_gpu/streams.h"

namespace {

using entrain::emulated::Lock;
using entrain::emulated::Milliseconds;
using entrain::emulated::Record;
using entrain::emulated::Result;
using entrain::emulated::TakeLock;

}  // namespace

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  *event = new CUevent_st{.flags = flags, .record = nullptr};
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return Result(cudaErrorInvalidResourceHandle);
  const Lock lock = TakeLock();
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  Lock lock = TakeLock();
  cudaStream_t stream = entrain::emulated::Find(handle);
  if (stream == nullptr || event == nullptr) return Result(cudaErrorInvalidResourceHandle);
  auto record = std::make_shared<Record>();
  record->stream = stream;
  record->capture = stream->capture;
  event->record = record;
  if (stream->capture != nullptr) return cudaSuccess;
  return Result(entrain::emulated::Add(lock, handle, {.work = [record] {
                                         record->done = true;
                                         record->milliseconds = Milliseconds();
                                       }}));
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t handle, unsigned int flags) {
  if (flags == cudaEventRecordDefault) return cudaEventRecord(event, handle);
  Lock lock = TakeLock();
  cudaStream_t stream = entrain::emulated::Find(handle);
  if (stream == nullptr || event == nullptr) return Result(cudaErrorInvalidResourceHandle);
  // An external record is a node of the graph under capture: it happens at each launch.
  if (flags != cudaEventRecordExternal || stream->capture == nullptr) {
    return Result(cudaErrorInvalidValue);
  }
  return Result(entrain::emulated::Add(lock, handle, {.work = [event] {
                                         auto record = std::make_shared<Record>();
                                         record->done = true;
                                         record->milliseconds = Milliseconds();
                                         event->record = record;
                                       }}));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Lock lock = TakeLock();
  if (event == nullptr) return Result(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Record> record = event->record;
  if (!record || record->done) return cudaSuccess;
  if (record->capture != nullptr) return Result(cudaErrorCapturedEvent);
  entrain::emulated::RunUntil(lock, *record);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock = TakeLock();
  if (event == nullptr) return Result(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Record> record = event->record;
  if (!record || record->done) return cudaSuccess;
  if (record->capture != nullptr) return Result(cudaErrorCapturedEvent);
  return entrain::emulated::Query(record->stream, [&] { return record->done; });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const Lock lock = TakeLock();
  for (const cudaEvent_t event : {start, end}) {
    if (event == nullptr || !event->record || (event->flags & cudaEventDisableTiming) != 0) {
      return Result(cudaErrorInvalidResourceHandle);
    }
    if (!event->record->done) return Result(cudaErrorNotReady);
  }
  *milliseconds = static_cast<float>(end->record->milliseconds - start->record->milliseconds);
  return cudaSuccess;
}
