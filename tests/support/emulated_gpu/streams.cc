#include "tests/support/emulated_gpu/streams.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <utility>

#include "tests/support/emulated_gpu/device_memory.h"
#include "tests/support/emulated_gpu/emulated_gpu.h"
#include "tests/support/emulated_gpu/kernel_run.h"

namespace entrain::emulated {
namespace {

using Clock = std::chrono::steady_clock;

// A gate that stays closed for so long, with nothing else to do, is a deadlock.
constexpr auto kStuck = std::chrono::seconds(300);

struct State {
  std::mutex mutex;
  std::condition_variable changed;
  CUstream_st legacy;
  std::list<CUstream_st> streams;
  const Clock::time_point start = Clock::now();
};

// Never destroyed: other static objects may still free memory at exit.
State& TheState() {
  static auto* state = new State();
  return *state;
}

bool Open(const Step& step) {
  return (!step.after || step.after->done) && (!step.ready || step.ready());
}

// The stream to run next so that `goal` gets on: itself, or what its next step waits for; null when that is a closed gate.
cudaStream_t Runnable(cudaStream_t goal) {
  while (goal != nullptr && !goal->steps.empty()) {
    const Step& next = goal->steps.front();
    if (Open(next)) return goal;
    if (!next.after || next.after->done) return nullptr;
    goal = next.after->stream;
  }
  return nullptr;
}

cudaStream_t AnyRunnable() {
  State& state = TheState();
  auto can_run = [](CUstream_st& stream) {
    return !stream.steps.empty() && Open(stream.steps.front());
  };
  if (can_run(state.legacy)) return &state.legacy;
  const auto found = std::ranges::find_if(state.streams, can_run);
  return found == state.streams.end() ? nullptr : &*found;
}

void RunFirst(cudaStream_t stream) {
  const Step step = std::move(stream->steps.front());
  stream->steps.pop_front();
  if (step.work) {
    const DeviceMemoryAccess access;
    step.work();
  }
  TheState().changed.notify_all();
}

// Work of other streams runs only where `goal` waits for it, or for a gate.
template <typename Done>
void RunUntil(Lock& lock, cudaStream_t goal, Done&& done) {
  if (done()) return;
  const DeviceMemoryAccess access;  // once for all of it
  while (!done()) {
    cudaStream_t next = Runnable(goal);
    if (next == nullptr) next = AnyRunnable();
    if (next != nullptr) {
      RunFirst(next);
    } else if (TheState().changed.wait_for(lock, kStuck) == std::cv_status::timeout) {
      std::fprintf(stderr, "emulated GPU: a stream has been waiting for a gate for too long\n");
      std::abort();
    }
  }
}

// Work on a stream that waits for the legacy default stream, and the reverse, is not kept lazy: the other one runs first.
void RunLegacyOrder(Lock& lock, cudaStream_t stream) {
  State& state = TheState();
  if (stream == &state.legacy) {
    for (CUstream_st& other : state.streams) {
      if ((other.flags & cudaStreamNonBlocking) == 0) RunStream(lock, &other);
    }
  } else if ((stream->flags & cudaStreamNonBlocking) == 0) {
    RunStream(lock, &state.legacy);
  }
}

}  // namespace

Lock TakeLock() { return Lock(TheState().mutex); }

double Milliseconds() {
  return std::chrono::duration<double, std::milli>(Clock::now() - TheState().start).count();
}

cudaStream_t Find(cudaStream_t handle) {
  State& state = TheState();
  if (handle == nullptr || handle == cudaStreamLegacy) return &state.legacy;
  const bool known =
      std::ranges::any_of(state.streams, [&](const CUstream_st& s) { return &s == handle; });
  return known ? handle : nullptr;
}

cudaError_t Add(Lock& lock, cudaStream_t handle, Step step) {
  cudaStream_t stream = Find(handle);
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream->capture != nullptr) {
    if (!stream->capture->valid) return cudaErrorStreamCaptureInvalidated;
    stream->capture->steps.push_back(std::move(step));
    return cudaSuccess;
  }
  RunLegacyOrder(lock, stream);
  stream->steps.push_back(std::move(step));
  TheState().changed.notify_all();
  return cudaSuccess;
}

void RunStream(Lock& lock, cudaStream_t stream) {
  RunUntil(lock, stream, [&] { return stream->steps.empty(); });
}

void RunUntil(Lock& lock, const Record& record) {
  RunUntil(lock, record.stream, [&] { return record.done; });
}

void RunAll(Lock& lock) {
  State& state = TheState();
  RunStream(lock, &state.legacy);
  int device = 0;
  cudaGetDevice(&device);
  for (CUstream_st& stream : state.streams) {
    if (stream.device == device) RunStream(lock, &stream);
  }
}

void RunBlockingStreams(Lock& lock) {
  RunLegacyOrder(lock, &TheState().legacy);
  RunStream(lock, &TheState().legacy);
}

cudaError_t CheckCapture(cudaStream_t stream) {
  State& state = TheState();
  cudaGraph_t forbids = stream != nullptr ? stream->capture : nullptr;
  for (const CUstream_st& other : state.streams) {
    if (stream != nullptr || other.capture == nullptr || !other.capture_origin) continue;
    const bool mine = other.capture->thread == std::this_thread::get_id();
    if (other.capture_mode == cudaStreamCaptureModeGlobal ||
        (mine && other.capture_mode == cudaStreamCaptureModeThreadLocal)) {
      forbids = other.capture;
    }
  }
  if (forbids == nullptr) return cudaSuccess;
  forbids->valid = false;
  return cudaErrorStreamCaptureUnsupported;
}

void LeaveCapture(cudaGraph_t graph) {
  for (CUstream_st& stream : TheState().streams) {
    if (stream.capture != graph) continue;
    stream.capture = nullptr;
    stream.capture_origin = false;
  }
}

cudaError_t Enqueue(cudaStream_t stream, std::function<void()> work) {
  Lock lock = TakeLock();
  return Result(Add(lock, stream, {.work = std::move(work)}));
}

cudaError_t EnqueueGate(cudaStream_t stream, std::function<bool()> ready) {
  Lock lock = TakeLock();
  return Result(Add(lock, stream, {.ready = std::move(ready)}));
}

cudaError_t Query(cudaStream_t stream, const std::function<bool()>& done) {
  if (done()) return cudaSuccess;
  const DeviceMemoryAccess access;  // once, not for each step
  while (!done()) {
    cudaStream_t next = Runnable(stream);
    if (next == nullptr) next = AnyRunnable();
    if (next == nullptr) break;
    RunFirst(next);
  }
  return cudaErrorNotReady;
}

void WakeWork() { TheState().changed.notify_all(); }

}  // namespace entrain::emulated

// ---- the runtime's calls ----

namespace {

using entrain::emulated::Lock;
using entrain::emulated::Record;
using entrain::emulated::Result;
using entrain::emulated::State;
using entrain::emulated::Step;
using entrain::emulated::TakeLock;
using entrain::emulated::TheState;

// Makes `stream` a part of a capture when the event that it is to wait for was recorded in one.
cudaError_t WaitInCapture(cudaStream_t stream, const Record& record) {
  if (record.capture == nullptr || !record.capture->valid) return cudaErrorStreamCaptureIsolation;
  if (stream->capture != nullptr && stream->capture != record.capture) {
    return cudaErrorStreamCaptureMerge;
  }
  stream->capture = record.capture;
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int priority) {
  const Lock lock = TakeLock();
  CUstream_st& created = TheState().streams.emplace_back();
  created.flags = flags;
  created.priority = priority;
  cudaGetDevice(&created.device);
  *stream = &created;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0);
}

// The work left is done, as on a device, though there the call does not wait for it.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock = TakeLock();
  if (stream == nullptr || entrain::emulated::Find(stream) != stream) {
    return Result(cudaErrorInvalidResourceHandle);
  }
  entrain::emulated::RunStream(lock, stream);
  TheState().streams.remove_if([&](const CUstream_st& s) { return &s == stream; });
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  Lock lock = TakeLock();
  cudaStream_t stream = entrain::emulated::Find(handle);
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  const cudaError_t error = entrain::emulated::CheckCapture(stream);
  if (error != cudaSuccess) return Result(error);
  if (stream == &TheState().legacy) entrain::emulated::RunBlockingStreams(lock);
  entrain::emulated::RunStream(lock, stream);
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const Lock lock = TakeLock();
  cudaStream_t stream = entrain::emulated::Find(handle);
  if (stream == nullptr) return Result(cudaErrorInvalidResourceHandle);
  const cudaError_t error = entrain::emulated::CheckCapture(stream);
  if (error != cudaSuccess) return Result(error);
  return entrain::emulated::Query(stream, [&] { return stream->steps.empty(); });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned int /*flags*/) {
  Lock lock = TakeLock();
  cudaStream_t stream = entrain::emulated::Find(handle);
  if (stream == nullptr || event == nullptr) return Result(cudaErrorInvalidResourceHandle);
  if (!event->record) return cudaSuccess;
  if (stream->capture != nullptr || event->record->capture != nullptr) {
    return Result(WaitInCapture(stream, *event->record));
  }
  return Result(entrain::emulated::Add(lock, handle, {.after = event->record}));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return entrain::emulated::Enqueue(stream, [function, data] { function(data); });
}

cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned int* flags) {
  const Lock lock = TakeLock();
  *flags = entrain::emulated::Find(stream)->flags;
  return cudaSuccess;
}

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) {
  const Lock lock = TakeLock();
  *priority = entrain::emulated::Find(stream)->priority;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Lock lock = TakeLock();
  const cudaError_t error = entrain::emulated::CheckCapture(nullptr);
  if (error != cudaSuccess) return Result(error);
  entrain::emulated::RunAll(lock);
  return cudaSuccess;
}
