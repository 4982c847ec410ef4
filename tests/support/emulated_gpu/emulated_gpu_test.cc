// The emulated GPU: kernels. Its streams and memory: emulated_runtime_gpu_test.cc.
#include "tests/support/emulated_gpu/emulated_gpu.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

#include "runtime/base/philox.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_block.cuh"
#include "runtime/kernels/cuda_elements.cuh"
#include "runtime/kernels/cuda_intrinsics.cuh"
#include "tests/support/gpu_test.h"

namespace entrain {
namespace {

using Floats = std::vector<float>;

template <typename... Parameters, typename... Arguments>
void RunKernel(void (*kernel)(Parameters...), int threads, size_t shared_bytes,
               const Arguments&... arguments) {
  cuda::Launch(kernel, dim3(1), dim3(static_cast<unsigned int>(threads)), shared_bytes,
               Gpu().cuda().stream, arguments...);
  Synchronize(Gpu());
}

float* Data(const GpuTensor& tensor) { return tensor.view().data<float>(); }
Bf16* Halves(const GpuTensor& tensor) { return tensor.view().data<Bf16>(); }

Floats Counting(int64_t size) {
  Floats values(static_cast<size_t>(size));
  std::iota(values.begin(), values.end(), 0.0F);
  return values;
}

Floats Normal(int64_t size, uint64_t stream) {
  Floats values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) {
    // Exact in bf16.
    values[i] = static_cast<float>(Bf16(static_cast<float>(NormalAt(3, stream, i))));
  }
  return values;
}

// ---- barriers ----

template <bool with_barrier>
__global__ void __launch_bounds__(256) ReverseKernel(const float* from, float* to) {
  __shared__ float values[256];
  values[threadIdx.x] = from[threadIdx.x];
  if (with_barrier) __syncthreads();
  to[threadIdx.x] = values[255 - threadIdx.x];
}

TEST(EmulatedGpu, BarrierOrdersAllThreads) {
  ENTRAIN_REQUIRE_GPU();
  EXPECT_TRUE(OnEmulatedGpu());
  const GpuTensor from(DType::kF32, {256}, Counting(256)), to(DType::kF32, {256});
  Floats reversed = Counting(256);
  std::ranges::reverse(reversed);
  for (uint32_t seed = 0; seed < 20; ++seed) {
    emulated::SetSeed(seed);
    RunKernel(ReverseKernel<true>, 256, 0, Data(from), Data(to));
    EXPECT_EQ(to.Get(), reversed);
  }
}

#ifdef __SANITIZE_THREAD__
constexpr char kRacesGoOn[] = "races do not end the process without TSAN_OPTIONS=halt_on_error=1";
bool RacesEndTheProcess() {
  const char* options = std::getenv("TSAN_OPTIONS");
  return options != nullptr && std::strstr(options, "halt_on_error=1") != nullptr;
}

// Threads of a block are threads to ThreadSanitizer, ordered by barriers only.
TEST(EmulatedGpuDeathTest, MissingBarrierIsARace) {
  ENTRAIN_REQUIRE_GPU();
  if (!RacesEndTheProcess()) GTEST_SKIP() << kRacesGoOn;
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto run = [] {
    unsetenv("ENTRAIN_EMULATED_BLOCKS");
    const GpuTensor from(DType::kF32, {256}), to(DType::kF32, {256});
    RunKernel(ReverseKernel<false>, 256, 0, Data(from), Data(to));
  };
  EXPECT_DEATH(run(), "data race");
}

// Each thread writes its own number and, with `overlap`, its neighbour's: in the last thread's case the next block's.
template <bool overlap>
__global__ void NumbersKernel(float* to) {
  const unsigned number = blockIdx.x * blockDim.x + threadIdx.x;
  to[number] = static_cast<float>(number);
  if (overlap && threadIdx.x == blockDim.x - 1) to[number + 1] = static_cast<float>(number + 1);
}

// And blocks are ordered by nothing.
TEST(EmulatedGpuDeathTest, TwoBlocksAtOnePlaceAreARace) {
  ENTRAIN_REQUIRE_GPU();
  if (!RacesEndTheProcess()) GTEST_SKIP() << kRacesGoOn;
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  auto run = [](auto* kernel) {
    setenv("ENTRAIN_EMULATED_BLOCKS", "unordered", 1);
    const GpuTensor to(DType::kF32, {65});
    cuda::Launch(kernel, dim3(2), dim3(32), 0, Gpu().cuda().stream, Data(to));
    Synchronize(Gpu());
  };
  EXPECT_EXIT((run(NumbersKernel<false>), _exit(0)), testing::ExitedWithCode(0), "");
  EXPECT_DEATH(run(NumbersKernel<true>), "data race");
}
#else
TEST(EmulatedGpu, MissingBarrierIsSeen) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor from(DType::kF32, {256}, Counting(256)), to(DType::kF32, {256});
  std::vector<uint8_t> first;
  for (const uint32_t seed : {0, 1}) {
    emulated::SetSeed(seed);
    RunKernel(ReverseKernel<false>, 256, 0, Data(from), Data(to));
    const Floats values = to.Get();
    // What was read too early is what no thread has written.
    const auto nans = std::ranges::count_if(values, [](float x) { return std::isnan(x); });
    EXPECT_GT(nans, 0);
    EXPECT_LT(nans, 256);
    if (seed == 0) first = to.Bytes();
    EXPECT_EQ(to.Bytes() == first, seed == 0);
  }
}
#endif

__global__ void ReturnedKernel(float* to) {
  __shared__ float value;
  if (threadIdx.x >= 40) return;
  if (threadIdx.x == 3) value = 5.0F;
  __syncthreads();
  to[threadIdx.x] = value;
}

TEST(EmulatedGpu, ReturnedThreadsCountAsArrived) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor to(DType::kF32, {100});
  RunKernel(ReturnedKernel, 100, 0, Data(to));
  Floats expected(100, 0.0F);
  std::fill_n(expected.begin(), 40, 5.0F);
  EXPECT_EQ(to.Get(), expected);
}

__global__ void SumKernel(const float* from, double* sum, float* most) {
  __shared__ double sums[cuda::kMaxWarps];
  __shared__ float scratch[cuda::kMaxWarps];
  const double total =
      cuda::BlockReduce(static_cast<double>(from[threadIdx.x]), sums, cuda::SumOf());
  const float largest = cuda::BlockReduce(from[threadIdx.x], scratch, cuda::MaxOf());
  if (threadIdx.x == 0) *sum = total;
  if (threadIdx.x == 77) *most = largest;
}

TEST(EmulatedGpu, BlockReduces) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor from(DType::kF32, {1024}, Counting(1024));
  const GpuTensor sum(DType::kF64, {1}), most(DType::kF32, {1});
  RunKernel(SumKernel, 1024, 0, Data(from), sum.view().data<double>(), Data(most));
  EXPECT_EQ(sum.GetDoubles()[0], 1023.0 * 512.0);
  EXPECT_EQ(most.Get()[0], 1023.0F);
}

// ---- indices, arguments, atomics ----

struct ThreeFloats {
  float values[3];
};

__global__ void IndexKernel(float* to, ThreeFloats addends) {
  const auto block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const auto thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const auto threads = blockDim.x * blockDim.y * blockDim.z;
  to[block * threads + thread] = addends.values[2] + static_cast<float>(threadIdx.y);
}

TEST(EmulatedGpu, RunsEachThreadOfEachBlockOnceWithItsIndex) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor to(DType::kF32, {2 * 3 * 4 * 5 * 7 * 2});
  ThreeFloats addends = {{1.0F, 2.0F, 3.0F}};
  cuda::Launch(IndexKernel, dim3(2, 3, 4), dim3(5, 7, 2), 0, Gpu().cuda().stream, Data(to),
               addends);
  addends.values[2] = 100.0F;  // arguments were copied at the launch
  const Floats values = to.Get();
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(values[i], 3.0F + static_cast<float>(i / 5 % 7)) << i;
  }
}

__global__ void CountKernel(int* to) { atomicAdd(to, 2); }

TEST(EmulatedGpu, AtomicsAdd) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor to(DType::kI32, {1});
  RunKernel(CountKernel, 96, 0, to.view().data<int32_t>());
  EXPECT_EQ(to.GetInts()[0], 192);
}

// ---- shared memory ----

__global__ void UnwrittenKernel(float* to) {
  __shared__ float variable;
  const auto* dynamic = reinterpret_cast<const float*>(cuda::DynamicShared());
  if (gridDim.x == 2) variable = 1.0F;  // a variable that is never written would be none
  to[0] = variable;
  to[1] = dynamic[0];
  to[2] = dynamic[99];
  to[3] = static_cast<float>(reinterpret_cast<uintptr_t>(dynamic) % 128);
}

TEST(EmulatedGpu, SharedMemoryIsNanAtFirst) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor to(DType::kF32, {4});
  RunKernel(UnwrittenKernel, 1, 400, Data(to));
  const Floats values = to.Get();
  EXPECT_TRUE(std::isnan(values[0]));
  EXPECT_TRUE(std::isnan(values[1]));
  EXPECT_TRUE(std::isnan(values[2]));
  EXPECT_EQ(values[3], 0.0F);
}

__global__ void CopyKernel(const float* from, float* to, int copies_to_wait_for) {
  auto* shared = reinterpret_cast<float4*>(cuda::DynamicShared());
  cuda::CopyAsync16(&shared[0], from);
  cuda::CommitCopies();
  cuda::CopyAsync16(&shared[1], from + 4);
  cuda::CopyAsync16(&shared[2], from, false);
  cuda::CommitCopies();
  if (copies_to_wait_for == 1) cuda::WaitForCopies<1>();
  if (copies_to_wait_for == 2) cuda::WaitForCopies<0>();
  for (int i = 0; i < 3; ++i) to[i] = shared[i].y;
}

TEST(EmulatedGpu, AsynchronousCopiesAreThereAfterTheWaitOnly) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor from(DType::kF32, {8}, Counting(8)), to(DType::kF32, {3});
  RunKernel(CopyKernel, 1, 48, Data(from), Data(to), 0);
  for (const float value : to.Get()) EXPECT_TRUE(std::isnan(value));
  RunKernel(CopyKernel, 1, 48, Data(from), Data(to), 1);
  EXPECT_EQ(to.Get()[0], 1.0F);
  EXPECT_TRUE(std::isnan(to.Get()[1]));
  RunKernel(CopyKernel, 1, 48, Data(from), Data(to), 2);
  EXPECT_EQ(to.Get(), (Floats{1.0F, 5.0F, 0.0F}));
}

// ---- warps, tensor cores ----

__global__ void ShuffleKernel(float* to) {
  const auto lane = static_cast<int>(threadIdx.x);
  const float value = cuda::ShuffleFrom(static_cast<float>(lane), lane / 2);
  to[lane] = cuda::ShuffleXor(value, 3);
}

TEST(EmulatedGpu, Shuffles) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor to(DType::kF32, {32});
  RunKernel(ShuffleKernel, 32, 0, Data(to));
  const Floats values = to.Get();
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(values[static_cast<size_t>(i)], static_cast<float>((i ^ 3) / 2));
  }
}

// c [16, 8] += a [16, 16] · b [16, 8], fragments taken element by element as the layout says.
__global__ void ProductKernel(const Bf16* a, const Bf16* b, float* c) {
  const int g = static_cast<int>(threadIdx.x) / 4, p = 2 * (static_cast<int>(threadIdx.x) % 4);
  auto pair = [](Bf16 low, Bf16 high) { return low.bits | static_cast<uint32_t>(high.bits) << 16; };
  uint32_t af[4], bf[2];
  float cf[4] = {c[g * 8 + p], c[g * 8 + p + 1], c[(g + 8) * 8 + p], c[(g + 8) * 8 + p + 1]};
  for (int i = 0; i < 4; ++i) {
    const Bf16* at = a + (g + 8 * (i % 2)) * 16 + p + 8 * (i / 2);
    af[i] = pair(at[0], at[1]);
  }
  for (int i = 0; i < 2; ++i) bf[i] = pair(b[(p + 8 * i) * 8 + g], b[(p + 1 + 8 * i) * 8 + g]);
  cuda::MultiplyAdd(cf, af, bf);
  c[g * 8 + p] = cf[0];
  c[g * 8 + p + 1] = cf[1];
  c[(g + 8) * 8 + p] = cf[2];
  c[(g + 8) * 8 + p + 1] = cf[3];
}

// The same from shared memory, a by LoadMatrices, b [16, 8 of 16 columns] by LoadMatricesTransposed.
__global__ void LoadedProductKernel(const Bf16* a, const Bf16* b, float* c) {
  const int lane = static_cast<int>(threadIdx.x);
  auto* shared_a = reinterpret_cast<Bf16*>(cuda::DynamicShared());
  auto* shared_b = shared_a + 256;
  for (int i = lane; i < 256; i += 32) shared_a[i] = a[i];
  for (int i = lane; i < 256; i += 32) shared_b[i] = i % 16 < 8 ? b[i / 16 * 8 + i % 16] : Bf16(0);
  __syncwarp();
  uint32_t af[4], two[4];
  cuda::LoadMatrices(af, shared_a + lane % 16 * 16 + lane / 16 * 8);
  cuda::LoadMatricesTransposed(two, shared_b + lane % 16 * 16 + lane / 16 * 8);
  const int g = lane / 4, p = 2 * (lane % 4);
  float cf[4] = {c[g * 8 + p], c[g * 8 + p + 1], c[(g + 8) * 8 + p], c[(g + 8) * 8 + p + 1]};
  const uint32_t bf[2] = {two[0], two[1]};
  cuda::MultiplyAdd(cf, af, bf);
  c[g * 8 + p] = cf[0];
  c[g * 8 + p + 1] = cf[1];
  c[(g + 8) * 8 + p] = cf[2];
  c[(g + 8) * 8 + p + 1] = cf[3];
}

TEST(EmulatedGpu, MultipliesMatrices) {
  ENTRAIN_REQUIRE_GPU();
  const Floats a = Normal(256, 1), b = Normal(128, 2), c = Normal(128, 3);
  const GpuTensor a_gpu(DType::kBf16, {16, 16}, a), b_gpu(DType::kBf16, {16, 8}, b);
  const GpuTensor plain(DType::kF32, {16, 8}, c), loaded(DType::kF32, {16, 8}, c);
  RunKernel(ProductKernel, 32, 0, Halves(a_gpu), Halves(b_gpu), Data(plain));
  RunKernel(LoadedProductKernel, 32, 1024, Halves(a_gpu), Halves(b_gpu), Data(loaded));
  const Floats product = plain.Get();
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      double sum = c[i * 8 + j];
      for (size_t k = 0; k < 16; ++k) {
        sum += static_cast<double>(a[i * 16 + k]) * static_cast<double>(b[k * 8 + j]);
      }
      EXPECT_NEAR(product[i * 8 + j], sum, 1e-5);
    }
  }
  EXPECT_EQ(loaded.Get(), product);
}

// ---- what ends the process ----

template <typename Body>
__global__ void BodyKernel(Body body) {
  body();
}

// Of a block of so many threads whose body is this.
template <typename Body>
void RunBody(int threads, Body body) {
  RunKernel(BodyKernel<Body>, threads, 64, body);
}

class EmulatedKernelDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(EmulatedKernelDeathTest, LanesAtDifferentOperations) {
  ENTRAIN_REQUIRE_GPU();
  EXPECT_DEATH(RunBody(32,
                       [] {
                         if (threadIdx.x == 3) {
                           __syncwarp();
                         } else {
                           cuda::ShuffleXor(1.0F, 1);
                         }
                       }),
               "kernel .*BodyKernel.*other lanes of its warp wait at");
}

TEST_F(EmulatedKernelDeathTest, DeadlockAndReturnedLanes) {
  ENTRAIN_REQUIRE_GPU();
  EXPECT_DEATH(RunBody(64,
                       [] {
                         if (threadIdx.x < 16) {
                           __syncthreads();
                         } else {
                           __syncwarp();
                         }
                       }),
               "deadlock:\n  warp 0: 16 at __syncthreads, 16 at __syncwarp, 0 at the end of a "
               "phase, 0 returned");
  EXPECT_DEATH(RunBody(32,
                       [] {
                         if (threadIdx.x < 16) __syncwarp();
                       }),
               "deadlock|returned while other lanes");
  EXPECT_DEATH(RunBody(40, [] { __syncwarp(); }), "a warp-wide operation in a warp of 8 threads");
}

TEST_F(EmulatedKernelDeathTest, AddressesThatHardwareRefuses) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor from(DType::kF32, {8});
  const float* data = Data(from);
  EXPECT_DEATH(RunBody(1, [data] { cuda::CopyAsync16(cuda::DynamicShared(), data + 1); }),
               "not a multiple of 16");
  EXPECT_DEATH(RunBody(1, [data] { cuda::CopyAsync16(const_cast<float*>(data), data); }),
               "not in the block's shared memory");
  EXPECT_DEATH(RunBody(32,
                       [] {
                         uint32_t r[4];
                         cuda::LoadMatrices(r, cuda::DynamicShared() + 8);
                       }),
               "LoadMatrices: the address of lane 0 is not a multiple");
}

TEST_F(EmulatedKernelDeathTest, AccessesOutsideOfMemory) {
  ENTRAIN_REQUIRE_GPU();
  const GpuTensor to(DType::kF32, {64});
  float* data = Data(to);
  // What follows an allocation within its alignment is checked when it is freed.
  EXPECT_DEATH(RunBody(33, [data] { data[64 + threadIdx.x] = 1.0F; }), "thread .*past the end of");
  EXPECT_DEATH(RunBody(1, [] { cuda::DynamicShared()[128] = 1; }),
               "0 bytes past the end of the block's dynamic shared memory");
}

}  // namespace
}  // namespace entrain
