// The communicator's contract by NCCL. Ranks are threads with a GPU each: four of the emulated GPU with the emulated NCCL, or
// as many as this machine has.
#include <gtest/gtest.h>
#include <nccl.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/communicator_nccl.h"
#include "parallel/comm/device_collectives.h"
#include "parallel/comm/rank_failure.h"
#include "parallel/comm/ranks_nccl.h"
#include "parallel/mesh.h"
#include "runtime/device/cuda_device.h"
#include "tests/support/communicator_contract.h"
#include "tests/support/device_ranks.h"
#include "tests/support/gpu_test.h"
#ifdef ENTRAIN_EMULATED_NCCL
#include "tests/support/emulated_nccl/emulated_nccl.h"
#endif

namespace entrain {
namespace {

// Before the emulated GPU is first asked. The contract makes many small copies.
[[maybe_unused]] const int kEmulatedGpuIsSet =
    setenv("ENTRAIN_EMULATED_DEVICES", "4", 0) + setenv("ENTRAIN_EMULATED_PROTECT", "0", 0);

std::unique_ptr<Context> GpuContext(int rank) {
  return std::move(Context::CreateCuda(rank, 1)).value();
}

#define ENTRAIN_REQUIRE_NCCL() \
  ENTRAIN_REQUIRE_GPU();       \
  if (!NcclVersion().ok()) GTEST_SKIP() << NcclVersion().status().message()

#define ENTRAIN_REQUIRE_GPUS(count)                                                          \
  ENTRAIN_REQUIRE_NCCL();                                                                    \
  if (*Context::CudaDevices() < (count))                                                     \
  GTEST_SKIP() << "this machine has " << *Context::CudaDevices() << " GPUs, the test needs " \
               << (count)

// All but what NCCL does not promise: an order of its sums.
std::vector<ContractCheck> PromisedByNccl() {
  std::vector<ContractCheck> checks = CommunicatorContract();
  std::erase_if(checks, [](const ContractCheck& check) {
    return check.first == "SumsAreMadeInRankOrder" ||
           check.first == "SumsHaveTheSameBitsHoweverTheyAreMade";
  });
  return checks;
}

class NcclContractTest : public ::testing::TestWithParam<ContractCase> {};

TEST_P(NcclContractTest, Holds) {
  const auto& [check, ranks] = GetParam();
  ENTRAIN_REQUIRE_GPUS(ranks);
  RunDeviceRanks(ranks, GpuContext, [&](Context& context, Communicator& world) {
    const auto engine = MakeNcclEngine(context, world, {.wait_seconds = 60.0});
    ThroughDevice nccl(context, MakeNcclCommunicator(engine, world));
    check.second(nccl);
  });
}

INSTANTIATE_TEST_SUITE_P(All, NcclContractTest,
                         ::testing::Combine(::testing::ValuesIn(PromisedByNccl()),
                                            ::testing::Values(1, 2, 3, 4)),
                         ContractCaseName);

class NcclTest : public ::testing::TestWithParam<int> {
 protected:
  // body(nccl, host), both for host tensors.
  void Run(const std::function<void(Communicator& nccl, Communicator& host)>& body) const {
    RunDeviceRanks(GetParam(), GpuContext, [&](Context& context, Communicator& world) {
      const auto engine = MakeNcclEngine(context, world, {.wait_seconds = 60.0});
      ThroughDevice nccl(context, MakeNcclCommunicator(engine, world));
      body(nccl, world);
    });
  }
};
INSTANTIATE_TEST_SUITE_P(Ranks, NcclTest, ::testing::Values(2, 3, 4));

std::vector<Bf16> Numbers(int64_t count, int rank) {
  std::vector<Bf16> x(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    x[static_cast<size_t>(i)] = Bf16(std::sin(static_cast<float>(i * (rank + 3))));
  }
  return x;
}

bool SameBits(const std::vector<Bf16>& a, const std::vector<Bf16>& b, ElementRange range) {
  return std::equal(a.begin() + range.begin, a.begin() + range.end, b.begin() + range.begin,
                    [](Bf16 p, Bf16 q) { return p.bits == q.bits; });
}

TEST_P(NcclTest, Bf16IsSummedAsOnTheHost) {
  ENTRAIN_REQUIRE_GPUS(GetParam());
  Run([](Communicator& nccl, Communicator& host) {
    for (const int64_t count : {1, 3, 64, 1000, 65536, 100003}) {
      std::vector<Bf16> x = Numbers(count, host.rank());
      std::vector<Bf16> y = x;
      nccl.AllReduce({x.data(), DType::kBf16, {count}}, ReduceOp::kSum, "test");
      host.AllReduce({y.data(), DType::kBf16, {count}}, ReduceOp::kSum, "test");
      EXPECT_TRUE(SameBits(x, y, {0, count})) << count;
    }
  });
}

// At odd places too, where elements are not taken four at a time.
TEST_P(NcclTest, Bf16IsScatteredAsOnTheHost) {
  ENTRAIN_REQUIRE_GPUS(GetParam());
  Run([](Communicator& nccl, Communicator& host) {
    constexpr int64_t kCount = 10001;
    for (const int64_t first : {0, 1, 64}) {
      std::vector<ElementRange> ranges = EvenRanges(kCount - first, host.size());
      for (ElementRange& range : ranges) range = {range.begin + first, range.end + first};
      ranges[0].end = ranges[0].begin;  // a rank may own nothing
      std::vector<Bf16> x = Numbers(kCount, host.rank());
      std::vector<Bf16> y = x;
      nccl.ReduceScatter({x.data(), DType::kBf16, {kCount}}, ranges, "test");
      host.ReduceScatter({y.data(), DType::kBf16, {kCount}}, ranges, "test");
      EXPECT_TRUE(SameBits(x, y, ranges[static_cast<size_t>(host.rank())])) << first;
    }
  });
}

TEST_P(NcclTest, EmptyVectorsAndRangesAreNothing) {
  ENTRAIN_REQUIRE_GPUS(GetParam());
  Run([](Communicator& nccl, Communicator& host) {
    float x = static_cast<float>(host.rank());
    const std::vector<ElementRange> none(static_cast<size_t>(host.size()));
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      nccl.AllReduce({&x, dtype, {0}}, ReduceOp::kSum, "test");
      nccl.ReduceScatter({&x, dtype, {1}}, none, "test");
      nccl.AllGather({&x, dtype, {1}}, none, "test");
    }
    EXPECT_EQ(x, static_cast<float>(host.rank()));
  });
}

TEST_P(NcclTest, TellsItsTimeAndItsLastOperation) {
  ENTRAIN_REQUIRE_GPUS(GetParam());
  Run([](Communicator& nccl, Communicator& host) {
    std::vector<float> x(100000, 1.0F);
    nccl.AllReduce({x.data(), DType::kF32, {100000}}, ReduceOp::kSum, "gradient bucket 0");
    EXPECT_GT(nccl.collective_time().under_way_seconds, 0.0);
    EXPECT_GE(nccl.collective_time().exposed_seconds, 0.0);
    // The engine sees a moment later that the older one is done.
    const auto expect_last = [&](const std::string& name) {
      for (int i = 0; i < 100 && nccl.LastOperation().name != name; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      EXPECT_EQ(nccl.LastOperation().name, name);
    };
    expect_last("gradient bucket 0 over world");
    host.Barrier("end of step");
    expect_last("end of step over world");
  });
}

// Rank 1 begins when it knows that rank 0 has begun.
TEST(NcclStartTest, DoesNotWaitForTheOthers) {
  ENTRAIN_REQUIRE_GPUS(2);
  RunDeviceRanks(2, GpuContext, [](Context& context, Communicator& world) {
    const auto engine = MakeNcclEngine(context, world, {.wait_seconds = 5.0});
    const auto nccl = MakeNcclCommunicator(engine, world);
    const Buffer x(DeviceKind::kCuda, 64);
    const int32_t mine = 1 << world.rank();
    CopyToDevice(context, &mine, x.data(), 4);
    if (world.rank() == 1) world.Barrier("rank 0 has begun");
    PendingCollective sum =
        nccl->StartAllReduce(TensorView(x.data(), DType::kI32, {1}), ReduceOp::kSum, "test");
    if (world.rank() == 0) world.Barrier("rank 0 has begun");
    sum.Wait();
    int32_t all = 0;
    CopyToHost(context, x.data(), &all, 4);
    EXPECT_EQ(all, 3);
  });
}

// A communicator of one rank has nothing to do; this one does it by NCCL all the same, so that its calls can be tried with one GPU.
TEST(NcclRanksTest, OneRankKeepsWhatItHas) {
  ENTRAIN_REQUIRE_NCCL();
  RunDeviceRanks(1, GpuContext, [](Context& context, Communicator& world) {
    NcclRanks ranks(MakeNcclEngine(context, world, {.wait_seconds = 60.0}), world);
    constexpr int64_t kCount = 1000;
    const Buffer memory(DeviceKind::kCuda, kCount * 4);
    std::vector<float> x(kCount);
    for (int64_t i = 0; i < kCount; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i);
    CopyToDevice(context, x.data(), memory.data(), kCount * 4);
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI32}) {
      const TensorView view(memory.data(), dtype, {kCount});
      for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
        ranks.AllReduce("test", view, op);
      }
      ranks.ReduceScatter("test", view, {{1, kCount - 1}});
      ranks.AllGather("test", view, {{1, kCount - 1}});
      ranks.Broadcast("test", view, 0);
    }
    CHECK_EQ(cudaStreamSynchronize(ranks.stream()), cudaSuccess);
    std::vector<float> y(kCount);
    CopyToHost(context, memory.data(), y.data(), kCount * 4);
    EXPECT_EQ(x, y);
  });
}

TEST(NcclCollectivesTest, AreChosenForRanksWithAGpuEach) {
  ENTRAIN_REQUIRE_GPUS(2);
  OnLocalRanks(2, [](std::unique_ptr<Communicator> world) {
    const auto context = GpuContext(world->rank());
    const DeviceCollectives device = ChooseDeviceCollectives(*context, *world);
    EXPECT_EQ(device.backend, "NCCL " + NcclVersion().value());
    EXPECT_EQ(device.why, "");
    EXPECT_NE(device.settings.find("NCCL_ALGO=Ring"), std::string::npos) << device.settings;
    const Mesh mesh(std::move(world), {.dp = 2, .tp = 1}, device);
    const Buffer x(DeviceKind::kCuda, 4);
    const int32_t mine = 1 << mesh.world().rank();
    CopyToDevice(*context, &mine, x.data(), 4);
    mesh.device_tp().AllReduce({x.data(), DType::kI32, {1}}, ReduceOp::kSum, "test");
    mesh.device_dp().AllReduce({x.data(), DType::kI32, {1}}, ReduceOp::kSum, "test");
    int32_t sum = 0;
    CopyToHost(*context, x.data(), &sum, 4);
    EXPECT_EQ(sum, 3);
  });
}

TEST(NcclSettingsTest, LeaveTheUsersAlone) {
  const auto forget = [] {
    for (const char* name :
         {"NCCL_PROTO", "NCCL_ALGO", "NCCL_NVLS_ENABLE", "NCCL_LAUNCH_ORDER_IMPLICIT"}) {
      unsetenv(name);
    }
  };
  forget();
  setenv("NCCL_PROTO", "LL128", 1);
  EXPECT_EQ(SetUpNccl(/*deterministic=*/true),
            "NCCL_LAUNCH_ORDER_IMPLICIT=1, NCCL_NVLS_ENABLE=0, NCCL_ALGO=Ring, NCCL_PROTO=LL128 "
            "(from the environment)");
  EXPECT_STREQ(std::getenv("NCCL_ALGO"), "Ring");
  forget();
  EXPECT_EQ(SetUpNccl(/*deterministic=*/false), "NCCL_LAUNCH_ORDER_IMPLICIT=1");
  EXPECT_EQ(std::getenv("NCCL_ALGO"), nullptr);
}

// Rank 1 has the communicator and then does not call.
TEST(NcclDeathTest, ARankThatDoesNotComeEndsTheOthers) {
  ENTRAIN_REQUIRE_GPUS(2);
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      RunDeviceRanks(
          2, GpuContext,
          [](Context& context, Communicator& world) {
            const auto engine = MakeNcclEngine(context, world, {.wait_seconds = 0.5});
            const auto nccl = MakeNcclCommunicator(engine, world);
            if (world.rank() == 1) std::this_thread::sleep_for(std::chrono::seconds(60));
            const Buffer x(DeviceKind::kCuda, 64);
            nccl->AllReduce({x.data(), DType::kF32, {16}}, ReduceOp::kSum, "gradient bucket 3");
            Synchronize(context);
          }),
      ::testing::ExitedWithCode(1),
      "rank 0 of 2 .*gradient bucket 3 over world: not done 0.5 s after this rank began it: rank 1 "
      "has not come to it");
}

TEST(NcclDeathTest, ARankThatDoesNotConnectEndsTheOthers) {
  ENTRAIN_REQUIRE_GPUS(2);
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(RunDeviceRanks(
                  2, GpuContext,
                  [](Context& context, Communicator& world) {
                    // What rank 1 would exchange on the host, but no more.
                    if (world.rank() == 1) {
                      std::vector<int32_t> ranks = {0, 1};
                      world.AllGather({ranks.data(), DType::kI32, {2}}, EvenRanges(2, 2), "ranks");
                      std::string id;
                      world.BroadcastText(&id, 0, "start");
                      std::this_thread::sleep_for(std::chrono::seconds(60));
                    }
                    const auto engine = MakeNcclEngine(context, world, {.wait_seconds = 0.5});
                    MakeNcclCommunicator(engine, world);
                  }),
              ::testing::ExitedWithCode(1),
              "rank 0 of 2 .*start of NCCL over world: NCCL could not begin it for 0.5 s: rank 1");
}

#ifdef ENTRAIN_EMULATED_NCCL
// The host waits in a call that knows no time-out: the engine's thread tells it.
TEST(NcclDeathTest, AnErrorOfNcclEndsTheRank) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      RunDeviceRanks(
          2, GpuContext,
          [](Context& context, Communicator& world) {
            const auto engine = MakeNcclEngine(context, world, {});
            const auto nccl = MakeNcclCommunicator(engine, world);
            const Buffer x(DeviceKind::kCuda, 64);
            nccl->AllReduce({x.data(), DType::kF32, {16}}, ReduceOp::kSum, "gradient bucket 3");
            Synchronize(context);
            world.Barrier("before it breaks");
            emulated::BreakNccl(6);
            std::this_thread::sleep_for(std::chrono::seconds(60));
          }),
      ::testing::ExitedWithCode(1),
      "rank 0 of 2 .*gradient bucket 3 over world: NCCL failed: remote process exited");
}

// NCCL sees at once that a rank is gone; why it went is known a little later.
TEST(NcclDeathTest, WhoKnowsMoreThanNcclSpeaksFirst) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(RunDeviceRanks(2, GpuContext,
                             [](Context& context, Communicator& world) {
                               const auto engine = MakeNcclEngine(context, world, {});
                               const auto nccl = MakeNcclCommunicator(engine, world);
                               world.Barrier("before it breaks");
                               emulated::BreakNccl(6);
                               std::this_thread::sleep_for(std::chrono::milliseconds(500));
                               if (world.rank() == 1) FailRank("1 of 2", "the reason itself");
                               std::this_thread::sleep_for(std::chrono::seconds(60));
                             }),
              ::testing::ExitedWithCode(1), "rank 1 of 2: the reason itself");
}
#endif

}  // namespace
}  // namespace entrain
