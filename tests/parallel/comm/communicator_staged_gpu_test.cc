// The communicator's contract for a GPU's memory through host memory: ranks are threads that share the GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <vector>

#include "parallel/comm/communicator_staged.h"
#include "parallel/comm/device_collectives.h"
#include "parallel/mesh.h"
#include "tests/support/communicator_contract.h"
#include "tests/support/device_ranks.h"
#include "tests/support/gpu_test.h"

namespace entrain {
namespace {

// Before the emulated GPU is first asked: the contract makes many small copies.
[[maybe_unused]] const int kEmulatedGpuIsSet = setenv("ENTRAIN_EMULATED_PROTECT", "0", 0);

std::unique_ptr<Context> GpuContext(int /*rank*/) {
  return std::move(Context::CreateCuda(0, 1)).value();
}

class StagedGpuContractTest : public ::testing::TestWithParam<ContractCase> {};

TEST_P(StagedGpuContractTest, Holds) {
  ENTRAIN_REQUIRE_GPU();
  const auto& [check, ranks] = GetParam();
  RunDeviceRanks(ranks, GpuContext, [&](Context& context, Communicator& world) {
    ThroughDevice staged(context, MakeStagedCommunicator(context, world));
    check.second(staged);
  });
}

INSTANTIATE_TEST_SUITE_P(All, StagedGpuContractTest,
                         ::testing::Combine(::testing::ValuesIn(CommunicatorContract()),
                                            ::testing::Values(1, 2, 4)),
                         ContractCaseName);

// Ops that were issued before Start are part of what is sent, and ops issued between Start and Wait do not hold it up for ever.
TEST(StagedGpuTest, OpsMayFollowWhileItIsUnderWay) {
  ENTRAIN_REQUIRE_GPU();
  RunDeviceRanks(2, GpuContext, [](Context& context, Communicator& world) {
    const auto staged = MakeStagedCommunicator(context, world);
    constexpr int64_t kCount = 10000;
    const Buffer x(DeviceKind::kCuda, kCount * 4);
    const Buffer other(DeviceKind::kCuda, kCount * 4);
    for (int step = 0; step < 5; ++step) {
      FillBytes(context, x.data(), world.rank() + 1, kCount * 4);  // 0x01010101 or 0x02020202
      PendingCollective sum = staged->StartAllReduce(TensorView(x.data(), DType::kI32, {kCount}),
                                                     ReduceOp::kSum, "test");
      FillBytes(context, other.data(), 7, kCount * 4);
      staged->Poll();
      sum.Wait();
      CopyOnDevice(context, x.data(), other.data(), kCount * 4);
      std::vector<int32_t> got(kCount);
      CopyToHost(context, other.data(), got.data(), kCount * 4);
      EXPECT_EQ(std::count(got.begin(), got.end(), 0x03030303), kCount);
    }
  });
}

TEST(DeviceCollectivesTest, RanksOnOneGpuGoThroughHostMemory) {
  ENTRAIN_REQUIRE_GPU();
  RunDeviceRanks(2, GpuContext, [](Context& context, Communicator& world) {
    const DeviceCollectives device = ChooseDeviceCollectives(context, world);
    EXPECT_EQ(device.backend, "through host memory");
    EXPECT_TRUE(device.why == "ranks 0 and 1 share one GPU, which NCCL does not allow" ||
                device.why == "this program was built without NCCL")
        << device.why;
    EXPECT_EQ(device.settings, "");
  });
}

TEST(DeviceCollectivesTest, ACpuNeedsNone) {
  RunLocalRanks(2, [](Communicator& world) {
    const auto context = std::move(Context::CreateCpu(1)).value();
    const DeviceCollectives device = ChooseDeviceCollectives(*context, world);
    EXPECT_EQ(device.backend, "host memory");
    EXPECT_FALSE(device.over);
  });
}

TEST(MeshOnDeviceTest, HasCommunicatorsOfBothMemoriesOnEachAxis) {
  ENTRAIN_REQUIRE_GPU();
  OnLocalRanks(4, [](std::unique_ptr<Communicator> world) {
    const auto context = GpuContext(world->rank());
    const DeviceCollectives device = ChooseDeviceCollectives(*context, *world);
    const Mesh mesh(std::move(world), {.dp = 2, .tp = 2}, device);
    EXPECT_EQ(&mesh.device_dp().host(), &mesh.dp());
    EXPECT_EQ(&mesh.device_tp().host(), &mesh.tp());
    const Buffer x(DeviceKind::kCuda, 4);
    const int32_t mine = 1 << mesh.world().rank();
    CopyToDevice(*context, &mine, x.data(), 4);
    mesh.device_tp().AllReduce({x.data(), DType::kI32, {1}}, ReduceOp::kSum, "test");
    mesh.device_dp().AllReduce({x.data(), DType::kI32, {1}}, ReduceOp::kSum, "test");
    int32_t sum = 0;
    CopyToHost(*context, x.data(), &sum, 4);
    EXPECT_EQ(sum, 15);
    EXPECT_GT(mesh.collective_time().under_way_seconds, 0.0);
    EXPECT_EQ(mesh.LastOperation().name, "test over dp");
    EXPECT_TRUE(mesh.device_dp().Agree(absl::OkStatus(), "test").ok());
  });
}

TEST(StagedGpuDeathTest, ARankThatDoesNotComeIsNamed) {
  ENTRAIN_REQUIRE_GPU();
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      RunDeviceRanks(
          2, GpuContext,
          [](Context& context, Communicator& world) {
            const auto staged = MakeStagedCommunicator(context, world);
            staged->SetTimeouts({.wait_seconds = 0.3});
            if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(60));
            const Buffer x(DeviceKind::kCuda, 64);
            staged->AllReduce({x.data(), DType::kF32, {16}}, ReduceOp::kSum, "gradient bucket 3");
          }),
      ::testing::ExitedWithCode(1),
      "rank 0 of 2 .*gradient bucket 3 over world: nothing came from rank 1 for 0.3 s");
}

}  // namespace
}  // namespace entrain
