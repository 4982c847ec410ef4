// An emulated GPU: runs CUDA kernels, and the calls of the CUDA runtime, on the CPU, so that the CUDA backend can be tested without
// a device. This is its host side; libraries above the runtime (an emulated cuBLASLt) enqueue their work here.
//
// Work is lazy: what is enqueued runs only when something waits for it, in the order of its stream and of the events between
// streams. A missing synchronisation is thus seen as old data. Environment:
//   ENTRAIN_EMULATED_SEED     order in which threads of a block run (default 1)
//   ENTRAIN_EMULATED_DEVICES  number of devices (default 1)
//   ENTRAIN_EMULATED_MIB      memory of a device (default 2048)
//   ENTRAIN_EMULATED_SHARED_KIB  shared memory of a block (default 227, as on Hopper; an A100 has 163)
//   ENTRAIN_EMULATED_CAPABILITY  compute capability · 10 (default 90; 80 as of an A100)
//   ENTRAIN_EMULATED_MULTIPROCESSORS  their number (default 132)
//   ENTRAIN_EMULATED_BLOCKS  "unordered": to ThreadSanitizer a block is not behind the one before it, as on a device. What two of
//                             them do to the same global memory is then a race; __shared__ variables are not looked at meanwhile
//   ENTRAIN_EMULATED_TENSOR_CORES  "truncate": sums of products and exponentials are as far off as on hardware (tensor_core_sum.h)
//   ENTRAIN_EMULATED_PROTECT  0: host code may touch device memory unnoticed, and many small pieces of work are faster
#ifndef ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EMULATED_GPU_H_
#define ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EMULATED_GPU_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>

namespace entrain::emulated {

inline constexpr int kMultiprocessors = 132;
inline constexpr size_t kDefaultSharedBytes = size_t{48} << 10;
inline constexpr size_t kMostSharedBytes = size_t{227} << 10;
inline constexpr int kWarpLanes = 32;
inline constexpr int kMostBlockThreads = 1024;

// Adds work to a stream, to the graph under capture if there is one. Called later, on whatever thread waits for the stream, with
// device memory readable and writable. An error becomes the thread's last error.
cudaError_t Enqueue(cudaStream_t stream, std::function<void()> work);

struct KernelLaunch {
  const void* kernel = nullptr;
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  std::function<void()> run_thread;  // calls the kernel
};
cudaError_t EnqueueKernel(KernelLaunch launch, cudaStream_t stream);

// Adds a point that the stream does not pass before ready() holds, which work of other streams or host threads bring about (they
// call WakeWork() then). ready() is asked any number of times, under the emulator's lock: it must not call CUDA.
cudaError_t EnqueueGate(cudaStream_t stream, std::function<bool()> ready);
void WakeWork();

// Begins another order in which threads run.
void SetSeed(uint32_t seed);

// Whether all these bytes are in one live allocation of device memory.
bool IsDeviceMemory(const void* start, size_t bytes);
// Whether they are in one allocation of pinned host memory.
bool IsPinnedMemory(const void* start, size_t bytes);

// Since the process began.
int64_t KernelsRun();

}  // namespace entrain::emulated

#endif  // ENTRAIN_TESTS_SUPPORT_EMULATED_GPU_EMULATED_GPU_H_
