#include <cuda_runtime.h>

#include <cstddef>

#include "runtime/device/cuda_check.h"
#include "runtime/device/cuda_device.h"
#include "runtime/device/cuda_event.h"
#include "runtime/device/transfers.h"

namespace entrain::cuda {
namespace {

class EventTransfer final : public Transfer {
 public:
  explicit EventTransfer(cudaStream_t stream) { event_.Record(stream); }
  bool Done() override { return event_.IsPast(); }

 private:
  CudaEvent event_;
};

// To the host on a stream of its own, after an event of the ops' stream; to the device among the ops.
class StreamTransfers final : public Transfers {
 public:
  explicit StreamTransfers(Context& context) : ops_(context.cuda().stream) {
    CHECK_CUDA(cudaStreamCreateWithFlags(&to_host_, cudaStreamNonBlocking));
  }
  ~StreamTransfers() override { cudaStreamDestroy(to_host_); }

  std::unique_ptr<Transfer> StartToHost(const void* device, void* host, int64_t bytes) override {
    issued_.Record(ops_);
    issued_.HoldUp(to_host_);
    return Copy(device, host, bytes, cudaMemcpyDeviceToHost, to_host_);
  }
  std::unique_ptr<Transfer> StartToDevice(const void* host, void* device, int64_t bytes) override {
    return Copy(host, device, bytes, cudaMemcpyHostToDevice, ops_);
  }

 private:
  static std::unique_ptr<Transfer> Copy(const void* from, void* to, int64_t bytes,
                                        cudaMemcpyKind kind, cudaStream_t stream) {
    if (bytes > 0) {
      CHECK_CUDA(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, stream));
    }
    return std::make_unique<EventTransfer>(stream);
  }

  cudaStream_t ops_;
  cudaStream_t to_host_ = nullptr;
  CudaEvent issued_;
};

}  // namespace

void* TakePinnedMemory(int64_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, static_cast<size_t>(bytes), cudaHostAllocDefault);
  CHECK(error == cudaSuccess) << "cannot pin " << bytes
                              << " bytes of host memory: " << cudaGetErrorString(error);
  return data;
}

// At the end of a process that lost its device there is nothing left to free.
void GivePinnedMemory(void* data) { cudaFreeHost(data); }

std::unique_ptr<Transfers> MakeTransfers(Context& context) {
  return std::make_unique<StreamTransfers>(context);
}

}  // namespace entrain::cuda
