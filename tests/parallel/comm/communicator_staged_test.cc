// The communicator's contract for device memory through host memory, where both are the same.
#include "parallel/comm/communicator_staged.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/communicator_contract.h"
#include "tests/support/device_ranks.h"

namespace entrain {
namespace {

std::unique_ptr<Context> CpuContext(int /*rank*/) {
  return std::move(Context::CreateCpu(1)).value();
}

class StagedContractTest : public ::testing::TestWithParam<ContractCase> {};

TEST_P(StagedContractTest, Holds) {
  const auto& [check, ranks] = GetParam();
  RunDeviceRanks(ranks, CpuContext, [&](Context& context, Communicator& world) {
    ThroughDevice staged(context, MakeStagedCommunicator(context, world));
    check.second(staged);
  });
}

INSTANTIATE_TEST_SUITE_P(All, StagedContractTest,
                         ::testing::Combine(::testing::ValuesIn(CommunicatorContract()),
                                            ::testing::Values(1, 2, 3, 4)),
                         ContractCaseName);

// The host's operations and its own have no order between them.
TEST(StagedCommunicatorTest, LeavesTheHostsOrderAlone) {
  RunDeviceRanks(3, CpuContext, [](Context& context, Communicator& world) {
    const auto staged = MakeStagedCommunicator(context, world);
    EXPECT_EQ(&staged->host(), &world);
    std::vector<float> x(5000, static_cast<float>(world.rank()));
    std::vector<float> y(5000, 1.0F);
    const TensorView view_x(x.data(), DType::kF32, {5000});
    const TensorView view_y(y.data(), DType::kF32, {5000});
    // Rank 1 begins them the other way about.
    PendingCollective of_host;
    if (world.rank() == 1) of_host = world.StartAllReduce(view_y, ReduceOp::kSum, "host");
    PendingCollective of_device = staged->StartAllReduce(view_x, ReduceOp::kSum, "device");
    if (world.rank() != 1) of_host = world.StartAllReduce(view_y, ReduceOp::kSum, "host");
    of_device.Wait();
    of_host.Wait();
    EXPECT_EQ(x.back(), 3.0F);
    EXPECT_EQ(y.back(), 3.0F);
  });
}

TEST(StagedCommunicatorTest, CountsItsTime) {
  RunDeviceRanks(2, CpuContext, [](Context& context, Communicator& world) {
    const auto staged = MakeStagedCommunicator(context, world);
    const double before = world.collective_time().under_way_seconds;
    std::vector<float> x(50000, 1.0F);
    staged->AllReduce({x.data(), DType::kF32, {50000}}, ReduceOp::kSum, "test");
    const CollectiveTime time = staged->collective_time();
    EXPECT_GT(time.under_way_seconds, 0.0);
    EXPECT_LE(time.exposed_seconds, time.under_way_seconds);
    EXPECT_EQ(world.collective_time().under_way_seconds, before) << "counted twice";
  });
}

}  // namespace
}  // namespace entrain
