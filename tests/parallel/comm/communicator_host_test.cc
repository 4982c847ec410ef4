// The communicator's contract among threads of this process, and what happens when a rank does not come.
#include "parallel/comm/communicator_host.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "parallel/comm/transport_local.h"
#include "tests/support/communicator_contract.h"
#include "tests/support/local_ranks.h"

namespace entrain {
namespace {

class LocalContractTest : public ::testing::TestWithParam<ContractCase> {
 protected:
  const ContractCheck& check() const { return std::get<0>(GetParam()); }
  int size() const { return std::get<1>(GetParam()); }
};

TEST_P(LocalContractTest, Holds) { RunLocalRanks(size(), check().second); }

TEST_P(LocalContractTest, HoldsWithAProgressThread) {
  RunLocalRanks(size(), check().second, {.progress_microseconds = 50});
}

TEST_P(LocalContractTest, HoldsWhileRanksMonitorEachOther) {
  RunLocalRanks(size(), check().second, {.monitor_peers = true});
}

INSTANTIATE_TEST_SUITE_P(All, LocalContractTest,
                         ::testing::Combine(::testing::ValuesIn(CommunicatorContract()),
                                            ::testing::Values(1, 2, 3, 4)),
                         ContractCaseName);

TEST(EvenRangesTest, CoverEverythingAtMultiplesOfTheAlignment) {
  const std::vector<ElementRange> ranges = EvenRanges(100, 3, 16);
  ASSERT_EQ(ranges.size(), 3U);
  EXPECT_EQ(ranges[0].begin, 0);
  EXPECT_EQ(ranges[0].end, 32);
  EXPECT_EQ(ranges[1].end, 64);
  EXPECT_EQ(ranges[2].end, 100);
  const std::vector<ElementRange> few = EvenRanges(2, 4);
  EXPECT_EQ(few[0].size() + few[1].size() + few[2].size() + few[3].size(), 2);
  EXPECT_EQ(few[3].end, 2);
}

// With a progress thread an operation ends although nobody polls.
TEST(ProgressThreadTest, MovesOperationsOnByItself) {
  auto transports = MakeLocalTransports(2);
  const auto a = MakeHostCommunicator(std::move(transports[0]), {.progress_microseconds = 100});
  const auto b = MakeHostCommunicator(std::move(transports[1]), {.progress_microseconds = 100});
  std::vector<float> x(500000, 1.0F);
  std::vector<float> y(500000, 2.0F);
  PendingCollective in_a =
      a->StartAllReduce({x.data(), DType::kF32, {500000}}, ReduceOp::kSum, "test");
  PendingCollective in_b =
      b->StartAllReduce({y.data(), DType::kF32, {500000}}, ReduceOp::kSum, "test");
  // Rank 0 alone waits: rank 1's part is done by its thread.
  in_a.Wait();
  in_b.Wait();
  EXPECT_EQ(x.back(), 3.0F);
  EXPECT_EQ(y.back(), 3.0F);
}

using CommDeathTest = ::testing::Test;

TEST(CommDeathTest, ARankThatDoesNotComeIsNamed) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        auto transports = MakeLocalTransports(4);
        std::vector<std::thread> threads;
        for (const int r : {0, 2, 3}) {
          threads.emplace_back([&, r] {
            const auto world = MakeHostCommunicator(std::move(transports[static_cast<size_t>(r)]),
                                                    {.timeouts = {.wait_seconds = 0.2}});
            world->Barrier("end of step 7");
          });
        }
        for (std::thread& thread : threads) thread.join();
      },
      ::testing::ExitedWithCode(1),
      "rank 0 of 4 .*end of step 7 over world: nothing came from rank 1 for 0.2 s");
}

// Its process is there no more: nobody beats.
TEST(CommDeathTest, ASilentRankIsNamedWhileOthersCompute) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        auto transports = MakeLocalTransports(2);
        const auto world =
            MakeHostCommunicator(std::move(transports[1]),
                                 {.timeouts = {.silence_seconds = 2.5}, .monitor_peers = true});
        std::this_thread::sleep_for(std::chrono::seconds(60));
      },
      ::testing::ExitedWithCode(1), "rank 1 of 2 .*: rank 0 has given no sign of life for [34] s");
}

// One computes and calls nothing for longer than the time-out; the other waits for it.
TEST(PeerMonitorTest, ARankThatComputesIsAlive) {
  auto transports = MakeLocalTransports(2);
  std::vector<std::thread> threads;
  for (const size_t r : {0, 1}) {
    threads.emplace_back([&, r] {
      const auto world = MakeHostCommunicator(
          std::move(transports[r]), {.timeouts = {.silence_seconds = 2.5}, .monitor_peers = true});
      if (r == 1) std::this_thread::sleep_for(std::chrono::seconds(4));
      world->Barrier("meeting");
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(LastOperationTest, NamesTheOldestUnderWayAndWhomItWaitsFor) {
  auto transports = MakeLocalTransports(2);
  const auto a = MakeHostCommunicator(std::move(transports[0]));
  const auto b = MakeHostCommunicator(std::move(transports[1]));
  EXPECT_EQ(a->LastOperation().name, "");
  std::vector<float> x(10, 1.0F);
  std::vector<float> y(10, 2.0F);
  PendingCollective in_a = a->StartAllReduce({x.data(), DType::kF32, {10}}, ReduceOp::kSum, "sum");
  EXPECT_EQ(a->LastOperation().name, "sum over world");
  EXPECT_EQ(a->LastOperation().awaited, std::vector<int>{1});
  PendingCollective in_b = b->StartAllReduce({y.data(), DType::kF32, {10}}, ReduceOp::kSum, "sum");
  std::thread other([&] { in_b.Wait(); });
  in_a.Wait();
  other.join();
  EXPECT_EQ(a->LastOperation().name, "sum over world");
  EXPECT_TRUE(a->LastOperation().awaited.empty());
}

}  // namespace
}  // namespace entrain
