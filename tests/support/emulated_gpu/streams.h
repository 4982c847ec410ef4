// Streams, events and graphs of the emulated device, and the one lock over all of its state.
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_STREAMS_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_STREAMS_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace entrain::emulated {

// Held while work is enqueued and while it runs.
using Lock = std::unique_lock<std::mutex>;
Lock TakeLock();

// Remembers an error as the thread's last one; returns it.
cudaError_t Result(cudaError_t error);

// One recording of an event.
struct Record {
  bool done = false;
  double milliseconds = 0.0;      // when, since the process began
  cudaStream_t stream = nullptr;  // it was recorded in; null: there is nothing to wait for
  cudaGraph_t capture = nullptr;  // it was recorded in
};

// What a stream does next: pass a gate, then do some work. Any of them may be absent.
struct Step {
  std::shared_ptr<Record> after;
  std::function<bool()> ready;
  std::function<void()> work;
};

// Since the process began.
double Milliseconds();

// The stream of a handle, the legacy default stream for null; null for a handle that is none.
cudaStream_t Find(cudaStream_t handle);

// Adds to a stream, or to the graph it is captured into.
cudaError_t Add(Lock& lock, cudaStream_t handle, Step step);

// Runs what the stream still has to do, and what that waits for.
void RunStream(Lock& lock, cudaStream_t stream);
void RunUntil(Lock& lock, const Record& record);
// Everything on every stream of the thread's device.
void RunAll(Lock& lock);
// What the legacy default stream and the streams that wait for it still have to do.
void RunBlockingStreams(Lock& lock);

// For a call that asks whether work of the stream is done, which leaves the answer for the next time: runs what can run now.
cudaError_t Query(cudaStream_t stream, const std::function<bool()>& done);

// For a call that waits, or may wait, for work: cudaSuccess, or what it has to return because a capture is under way, which then
// is invalid. `stream`: the one it waits for; null for all.
cudaError_t CheckCapture(cudaStream_t stream);

// Ends the capture into a graph, of all streams.
void LeaveCapture(cudaGraph_t graph);

}  // namespace entrain::emulated

struct CUstream_st {
  std::deque<entrain::emulated::Step> steps;
  unsigned int flags = 0;
  int priority = 0;
  int device = 0;
  // The graph that it is captured into, and whether the capture began here.
  cudaGraph_t capture = nullptr;
  bool capture_origin = false;
  cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
};

struct CUevent_st {
  unsigned int flags = 0;
  std::shared_ptr<entrain::emulated::Record> record;  // the last
};

// In the order of issue, which is one that its dependencies allow.
struct CUgraph_st {
  std::vector<entrain::emulated::Step> steps;
  bool valid = true;
  std::thread::id thread;  // that began the capture
};

struct CUgraphExec_st {
  std::vector<entrain::emulated::Step> steps;
};

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_STREAMS_H_
