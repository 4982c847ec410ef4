// The emulated GPU: products by warpgroups, and barriers of phases.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "runtime/base/philox.h"
#include "runtime/device/cuda_device.h"
#include "runtime/kernels/cuda_warpgroup.cuh"
#include "tests/support/gpu_test.h"

namespace entrain {
namespace {

using Floats = std::vector<float>;
constexpr int kSide = 64;          // rows of the tile and elements of a row
constexpr unsigned kReaders = 32;  // of what a warp hands over

Floats Normal(int64_t size, uint64_t stream) {
  Floats values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) {
    // Exact in bf16.
    values[i] = static_cast<float>(Bf16(static_cast<float>(NormalAt(3, stream, i))));
  }
  return values;
}

char* AlignedTile() {
  char* shared = cuda::DynamicShared();
  return shared + (0U - cuda::SharedAddress(shared)) % 1024;
}

uint64_t Describe(const void* tile) {
  const uint64_t address = cuda::SharedAddress(tile) & 0x3ffffU;
  return address >> 4 | uint64_t{64} << 16 | uint64_t{64} << 32 | uint64_t{1} << 62;
}

// The tile [64, 64], its 16-byte chunks exchanged as the swizzle says.
void CopyTile(const Bf16* from) {
  for (int i = static_cast<int>(threadIdx.x); i < kSide * 8; i += cuda::kWarpgroup) {
    const int row = i / 8;
    cuda::CopyAsync16(AlignedTile() + row * 128 + (i % 8 ^ row % 8) * 16, from + i * 8);
  }
  cuda::CommitCopies();
  cuda::WaitForCopies<0>();
}

// The thread's part of a [64, 16].
void LoadLeft(const Bf16* from, uint32_t (&a)[4]) {
  const int thread = static_cast<int>(threadIdx.x);
  const Bf16* at = from + (thread / 32 * 16 + thread % 32 / 4) * 16 + thread % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    const Bf16* two = at + i % 2 * 8 * 16 + i / 2 * 8;
    a[i] = two[0].bits | static_cast<uint32_t>(two[1].bits) << 16;
  }
}

// Where element c[n][i] of the thread lies in [64, 64].
int IndexOfSum(int n, int i) {
  const int thread = static_cast<int>(threadIdx.x);
  const int row = thread / 32 * 16 + thread % 32 / 4 + i / 2 * 8;
  return row * kSide + n * 8 + thread % 4 * 2 + i % 2;
}

// c [64, 64] = 1 + a·bᵀ (row_major: a·b) or without the 1; a [64, 16], b the columns (rows) 16·k .. 16·k + 15 of the tile.
template <bool row_major, bool accumulate>
__global__ void ProductKernel(const Bf16* tile, const Bf16* left, int k, float* c, bool* early) {
  CopyTile(tile);
  cuda::PublishToProducts();
  __syncthreads();
  uint32_t a[4];
  LoadLeft(left, a);
  float sums[8][4];
  for (auto& row : sums) {
    for (float& sum : row) sum = 1.0F;
  }
  cuda::BeginProducts();
  const int bytes = row_major ? 16 * 128 : 16 * 2;
  cuda::BeginProduct<row_major, accumulate>(sums, a, Describe(AlignedTile()) + (k * bytes >> 4));
  cuda::CommitProducts();
  cuda::WaitForProducts<1>();
  if (threadIdx.x == 5) *early = !std::isnan(sums[3][2]);
  cuda::WaitForProducts<0>(sums);
  for (int n = 0; n < 8; ++n) {
    for (int i = 0; i < 4; ++i) c[IndexOfSum(n, i)] = sums[n][i];
  }
}

template <typename... Parameters, typename... Arguments>
void RunWarpgroup(void (*kernel)(Parameters...), const Arguments&... arguments) {
  cuda::Launch(kernel, dim3(1), dim3(cuda::kWarpgroup), 8192 + 1024, Gpu().cuda().stream,
               arguments...);
  Synchronize(Gpu());
}

template <bool row_major, bool accumulate>
void ExpectProduct(int k) {
  const Floats tile = Normal(kSide * kSide, 1), left = Normal(kSide * 16, 2);
  const GpuTensor tile_gpu(DType::kBf16, {kSide, kSide}, tile);
  const GpuTensor left_gpu(DType::kBf16, {kSide, 16}, left);
  const GpuTensor c(DType::kF32, {kSide, kSide}), early(DType::kI32, {1});
  RunWarpgroup(ProductKernel<row_major, accumulate>, tile_gpu.view().data<Bf16>(),
               left_gpu.view().data<Bf16>(), k, c.view().data<float>(),
               reinterpret_cast<bool*>(early.view().raw()));
  EXPECT_EQ(early.GetInts()[0], 0) << "sums under way are not to be read";
  const Floats got = c.Get();
  for (int row = 0; row < kSide; ++row) {
    for (int column = 0; column < kSide; ++column) {
      double sum = accumulate ? 1.0 : 0.0;
      for (int t = 0; t < 16; ++t) {
        const int index = row_major ? (16 * k + t) * kSide + column : column * kSide + 16 * k + t;
        sum += static_cast<double>(left[static_cast<size_t>(row * 16 + t)]) *
               static_cast<double>(tile[static_cast<size_t>(index)]);
      }
      ASSERT_NEAR(got[static_cast<size_t>(row * kSide + column)], sum, 1e-5) << row << column;
    }
  }
}

TEST(EmulatedWarpgroup, MultipliesByTiles) {
  ENTRAIN_REQUIRE_GPU();
  for (int k = 0; k < 4; ++k) {
    ExpectProduct<false, true>(k);
    ExpectProduct<false, false>(k);
    ExpectProduct<true, true>(k);
    ExpectProduct<true, false>(k);
  }
}

// The block's first warp hands numbers to the second, each place as often as there are rounds.
__global__ void HandOverKernel(int rounds, int* sum) {
  constexpr int kPlaces = 2;
  auto* full = reinterpret_cast<uint64_t*>(cuda::DynamicShared());
  uint64_t* empty = full + kPlaces;
  auto* places = reinterpret_cast<int*>(empty + kPlaces);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kPlaces; ++i) {
      cuda::InitBarrier(full + i, 1);
      cuda::InitBarrier(empty + i, static_cast<int>(kReaders));
    }
  }
  __syncthreads();
  for (int turn = 0; turn < rounds * kPlaces; ++turn) {
    const int place = turn % kPlaces;
    const unsigned parity = static_cast<unsigned>(turn) / kPlaces % 2;
    if (threadIdx.x >= kReaders) {
      cuda::WaitForPhase(full + place, parity);
      sum[threadIdx.x - kReaders] += places[place];
      cuda::ArriveAt(empty + place);
    } else if (threadIdx.x == 0) {
      cuda::WaitForPhase(empty + place, parity ^ 1U);
      places[place] = turn;
      cuda::ArriveAt(full + place);
    }
  }
}

TEST(EmulatedWarpgroup, BarriersHandOver) {
  ENTRAIN_REQUIRE_GPU();
  constexpr int kRounds = 5;
  const GpuTensor sum(DType::kI32, {kReaders});
  cuda::Launch(HandOverKernel, dim3(1), dim3(2 * kReaders), 64, Gpu().cuda().stream, kRounds,
               reinterpret_cast<int*>(sum.view().raw()));
  Synchronize(Gpu());
  EXPECT_THAT(sum.GetInts(), ::testing::Each(2 * kRounds * (2 * kRounds - 1) / 2));
}

enum class Mistake { kNotPublished, kLeftChanged, kNoSwizzle, kOutside };

template <Mistake mistake>
__global__ void MistakenKernel(const Bf16* tile) {
  CopyTile(tile);
  if (mistake != Mistake::kNotPublished) cuda::PublishToProducts();
  __syncthreads();
  uint32_t a[4] = {};
  float sums[8][4] = {};
  uint64_t b = Describe(AlignedTile());
  if (mistake == Mistake::kNoSwizzle) b &= ~(uint64_t{3} << 62);
  if (mistake == Mistake::kOutside) b += 8192 >> 4;
  cuda::BeginProduct<false, true>(sums, a, b);
  cuda::CommitProducts();
  if (mistake == Mistake::kLeftChanged) a[2] = 7;
  cuda::WaitForProducts<0>(sums);
}

// arrivals: of the two that the barrier waits for; none: it is not made ready either.
__global__ void WaitingKernel(int arrivals) {
  auto* barrier = reinterpret_cast<uint64_t*>(cuda::DynamicShared());
  if (threadIdx.x == 0 && arrivals > 0) cuda::InitBarrier(barrier, 2);
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < arrivals) cuda::ArriveAt(barrier);
  cuda::WaitForPhase(barrier, 0);
}

TEST(EmulatedWarpgroupDeathTest, WaitsWithoutAnEnd) {
  ENTRAIN_REQUIRE_GPU();
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  RunWarpgroup(WaitingKernel, 2);
  EXPECT_DEATH(RunWarpgroup(WaitingKernel, 1), "deadlock(.|\n)*32 at the end of a phase");
  EXPECT_DEATH(RunWarpgroup(WaitingKernel, 0), "a barrier that was not initialised");
}

TEST(EmulatedWarpgroupDeathTest, MistakesThatHardwareDoesNotSee) {
  ENTRAIN_REQUIRE_GPU();
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const GpuTensor tile(DType::kBf16, {kSide, kSide});
  const Bf16* data = tile.view().data<Bf16>();
  EXPECT_DEATH(RunWarpgroup(MistakenKernel<Mistake::kNotPublished>, data), "not published");
  EXPECT_DEATH(RunWarpgroup(MistakenKernel<Mistake::kLeftChanged>, data), "has been changed");
  EXPECT_DEATH(RunWarpgroup(MistakenKernel<Mistake::kNoSwizzle>, data), "a swizzle of 128 bytes");
  EXPECT_DEATH(RunWarpgroup(MistakenKernel<Mistake::kOutside>, data), "not in the block's shared");
}

}  // namespace
}  // namespace entrain
