// The emulated GPU: streams, events, graphs, memory. Its kernels: emulated_gpu_test.cc.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_intrinsics.cuh"
#include "tests/support/emulated_gpu/emulated_gpu.h"
#include "tests/support/gpu_test.h"

namespace entrain {
namespace {

__global__ void AddKernel(int* to, int addend) { *to += addend; }
__global__ void CopyKernel(const int* from, int* to) { *to = *from; }

// Two streams, a device's int, a pinned host's int.
class EmulatedRuntime : public ::testing::Test {
 protected:
  void SetUp() override {
    ENTRAIN_REQUIRE_GPU();
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    CHECK_CUDA(cudaStreamCreateWithFlags(&other_, cudaStreamNonBlocking));
    CHECK_CUDA(cudaMallocHost(&host_, sizeof(int)));
    *host_ = -1;
  }
  void TearDown() override {
    if (host_ == nullptr) return;
    CHECK_CUDA(cudaStreamDestroy(stream_));
    CHECK_CUDA(cudaStreamDestroy(other_));
    CHECK_CUDA(cudaFreeHost(host_));
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }

  int* device() const { return number_.view().data<int32_t>(); }
  void Add(cudaStream_t stream, int addend) {
    cuda::Launch(AddKernel, dim3(1), dim3(1), 0, stream, device(), addend);
  }
  cudaError_t Read(cudaStream_t stream) {
    return cudaMemcpyAsync(host_, device(), sizeof(int), cudaMemcpyDeviceToHost, stream);
  }

  GpuTensor number_{DType::kI32, {1}};
  cudaStream_t stream_ = nullptr;
  cudaStream_t other_ = nullptr;
  int* host_ = nullptr;
};

// ---- streams and events ----

TEST_F(EmulatedRuntime, WorkIsDoneWhenSomethingWaitsForIt) {
  Add(stream_, 3);
  ASSERT_EQ(Read(stream_), cudaSuccess);
  EXPECT_EQ(*host_, -1);
  EXPECT_EQ(cudaStreamSynchronize(other_), cudaSuccess);
  EXPECT_EQ(*host_, -1);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(*host_, 3);
}

TEST_F(EmulatedRuntime, QuestionsLeaveTheAnswerForTheNextTime) {
  Add(stream_, 3);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaSuccess);
}

TEST_F(EmulatedRuntime, CopiesFromAndToPageableMemoryAreDoneAtOnce) {
  Add(stream_, 3);
  int value = 0;
  ASSERT_EQ(cudaMemcpyAsync(&value, device(), sizeof(int), cudaMemcpyDeviceToHost, stream_),
            cudaSuccess);
  EXPECT_EQ(value, 3);
}

TEST_F(EmulatedRuntime, StreamsAreNotOrderedButByEvents) {
  const GpuTensor copy(DType::kI32, {1});
  int* to = copy.view().data<int32_t>();
  Add(stream_, 3);
  cuda::Launch(CopyKernel, dim3(1), dim3(1), 0, other_, device(), to);
  EXPECT_EQ(cudaStreamSynchronize(other_), cudaSuccess);
  EXPECT_EQ(copy.GetInts()[0], 0);  // the missing wait is seen

  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(other_, event, 0), cudaSuccess);
  cuda::Launch(CopyKernel, dim3(1), dim3(1), 0, other_, device(), to);
  Add(stream_, 10);  // behind the event
  EXPECT_EQ(cudaStreamSynchronize(other_), cudaSuccess);
  EXPECT_EQ(copy.GetInts()[0], 3);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(EmulatedRuntime, EventsAreWaitedForAndTimed) {
  cudaEvent_t begin = nullptr, end = nullptr;
  ASSERT_EQ(cudaEventCreate(&begin), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(begin, stream_), cudaSuccess);
  ASSERT_EQ(Read(stream_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(end, stream_), cudaSuccess);
  float milliseconds = -1.0F;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaErrorNotReady);
  EXPECT_EQ(cudaEventSynchronize(end), cudaSuccess);
  EXPECT_EQ(*host_, 0);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaSuccess);
  EXPECT_GE(milliseconds, 0.0F);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotReady);
  EXPECT_EQ(cudaEventDestroy(begin), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(end), cudaSuccess);
}

TEST_F(EmulatedRuntime, GatesHoldAStreamBack) {
  bool open = false;
  ASSERT_EQ(emulated::EnqueueGate(stream_, [&] { return open; }), cudaSuccess);
  ASSERT_EQ(Read(stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorNotReady);
  EXPECT_EQ(*host_, -1);
  // Another stream's work opens it, and runs though nothing waits for that stream.
  ASSERT_EQ(emulated::Enqueue(other_, [&] { open = true; }), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(*host_, 0);
}

TEST_F(EmulatedRuntime, TheDefaultStreamIsOrderedWithBlockingStreams) {
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  Add(blocking, 3);
  Add(nullptr, 4);
  EXPECT_EQ(cudaMemcpy(host_, device(), sizeof(int), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(*host_, 7);
  // Not with the others.
  Add(stream_, 1);
  EXPECT_EQ(cudaMemcpy(host_, device(), sizeof(int), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(*host_, 7);
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

// ---- graphs ----

TEST_F(EmulatedRuntime, GraphsAreCapturedAndLaunched) {
  int addend = 3;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  Add(stream_, addend);
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(other_, event, 0), cudaSuccess);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  EXPECT_EQ(cudaStreamIsCapturing(other_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  Add(other_, 100);
  ASSERT_EQ(cudaEventRecord(event, other_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(stream_, event, 0), cudaSuccess);
  addend = 0;
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  EXPECT_EQ(number_.GetInts()[0], 0);
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  for (int i = 1; i <= 3; ++i) {
    ASSERT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(number_.GetInts()[0], 103 * i);
  }
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
}

TEST_F(EmulatedRuntime, WaitingInvalidatesACapture) {
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(graph, nullptr);

  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 16), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
}

// ---- launches ----

TEST_F(EmulatedRuntime, RefusesWhatADeviceRefuses) {
  auto launch = [&](dim3 grid, dim3 block, size_t shared_bytes) {
    const cudaError_t error =
        emulated::EnqueueKernel({.kernel = reinterpret_cast<const void*>(AddKernel),
                                 .grid = grid,
                                 .block = block,
                                 .shared_bytes = shared_bytes,
                                 .run_thread = [] {}},
                                stream_);
    EXPECT_EQ(cudaGetLastError(), error);
    return error;
  };
  EXPECT_EQ(launch(dim3(1), dim3(1024), 0), cudaSuccess);
  EXPECT_EQ(launch(dim3(1), dim3(1025), 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1), dim3(1, 1, 65), 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(0), dim3(32), 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1, 65536), dim3(32), 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1), dim3(32), 48 << 10), cudaSuccess);
  EXPECT_EQ(launch(dim3(1), dim3(32), (48 << 10) + 16), cudaErrorInvalidValue);
  cuda::AllowSharedBytes(AddKernel, 227 << 10);
  EXPECT_EQ(launch(dim3(1), dim3(32), 227 << 10), cudaSuccess);
  EXPECT_EQ(launch(dim3(1), dim3(32), (227 << 10) + 16), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(reinterpret_cast<const void*>(AddKernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
}

__global__ void VariableKernel(float* to) {
  __shared__ float values[256];
  values[threadIdx.x] = 1.0F;
  __syncthreads();
  to[threadIdx.x] = values[255 - threadIdx.x];
}

TEST_F(EmulatedRuntime, SharedVariablesCount) {
  auto allow = [](int bytes) {
    return cudaFuncSetAttribute(reinterpret_cast<const void*>(VariableKernel),
                                cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  cudaFuncAttributes attributes;
  ASSERT_EQ(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(VariableKernel)),
            cudaSuccess);
  EXPECT_EQ(attributes.sharedSizeBytes, 1024U);
  EXPECT_EQ(attributes.maxDynamicSharedSizeBytes, 47 << 10);
  EXPECT_EQ(allow(226 << 10), cudaSuccess);
  EXPECT_EQ(allow(227 << 10), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
}

// ---- threads ----

TEST_F(EmulatedRuntime, RanksAreThreadsWithStreamsOfTheirOwn) {
  constexpr int kRanks = 4, kSteps = 20;
  std::vector<std::thread> ranks;
  std::vector<int> results(kRanks);
  for (int rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&results, rank] {
      const std::unique_ptr<Context> context = *Context::CreateCuda(0, 1);
      const Buffer number(DeviceKind::kCuda, sizeof(int));
      auto* device = static_cast<int*>(number.data());
      for (int step = 0; step < kSteps; ++step) {
        cuda::Launch(AddKernel, dim3(1), dim3(1), 0, context->cuda().stream, device, rank);
        CopyToHost(*context, device, &results[static_cast<size_t>(rank)], sizeof(int));
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (int rank = 0; rank < kRanks; ++rank) {
    EXPECT_EQ(results[static_cast<size_t>(rank)], rank * kSteps);
  }
}

// ---- memory ----

TEST_F(EmulatedRuntime, MemoryRunsOut) {
  size_t free = 0, total = 0, left = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  EXPECT_EQ(total, size_t{2} << 30);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, free + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  ASSERT_EQ(cudaMalloc(&memory, 1000), cudaSuccess);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 256, 0U);
  ASSERT_EQ(cudaMemGetInfo(&left, &total), cudaSuccess);
  EXPECT_EQ(left, free - 1024);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
}

TEST_F(EmulatedRuntime, NewMemoryIsNan) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, sizeof(int)), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(host_, memory, sizeof(int), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(*host_, -1);
  EXPECT_EQ(cudaMemset(memory, 1, sizeof(int)), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(host_, memory, sizeof(int), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(*host_, 0x01010101);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

TEST_F(EmulatedRuntime, CopiesAreWithinMemoryAndOfTheirKind) {
  int values[2] = {1, 2};
  auto copy = [&](void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, stream_);
    EXPECT_EQ(cudaGetLastError(), error);
    return error;
  };
  EXPECT_EQ(copy(device(), values, 4, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(copy(device(), values, 4, cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(copy(device(), values, 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(copy(device(), values, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(copy(values, values + 1, 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(values, 0, 4, stream_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
}

using EmulatedRuntimeDeathTest = EmulatedRuntime;

TEST_F(EmulatedRuntimeDeathTest, HostCodeMayNotTouchDeviceMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(*device() = 1,
               "host code touched device memory: .* at byte 0 of an allocation of 4");
}

TEST_F(EmulatedRuntimeDeathTest, WritesNextToAnAllocationAreFound) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        void* memory = nullptr;
        CHECK_CUDA(cudaMalloc(&memory, 4));
        cuda::Launch(AddKernel, dim3(1), dim3(1), 0, stream_, static_cast<int*>(memory) + 1, 1);
        cudaFree(memory);
      },
      "something wrote just outside of an allocation of 4 bytes");
}

TEST(EmulatedDevices, AreAsManyAsTheEnvironmentSays) {
  setenv("ENTRAIN_EMULATED_DEVICES", "3", 1);
  EXPECT_EQ(*Context::CudaDevices(), 3);
  setenv("ENTRAIN_EMULATED_DEVICES", "0", 1);
  EXPECT_EQ(Context::CudaDevices().status().code(), absl::StatusCode::kFailedPrecondition);
  unsetenv("ENTRAIN_EMULATED_DEVICES");
  cudaGetLastError();
  EXPECT_EQ(*Context::CudaDevices(), 1);
  EXPECT_EQ(Context::CreateCuda(1, 1).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace entrain
