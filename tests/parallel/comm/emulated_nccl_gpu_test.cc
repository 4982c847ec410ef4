// The emulated NCCL (tests/support/emulated_nccl): what NCCL would refuse, hang on or compute wrongly ends the process.
#ifdef ENTRAIN_EMULATED_NCCL
#include <gtest/gtest.h>
#include <nccl.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "parallel/comm/communicator_nccl.h"
#include "runtime/device/cuda_device.h"
#include "tests/support/device_ranks.h"

namespace entrain {
namespace {

// Before the emulated GPU is first asked.
[[maybe_unused]] const int kEmulatedGpuIsSet = setenv("ENTRAIN_EMULATED_DEVICES", "2", 0);

std::unique_ptr<Context> GpuContext(int rank) {
  return std::move(Context::CreateCuda(rank, 1)).value();
}

ncclResult_t StateOf(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) ncclCommGetAsyncError(comm, &state);
  return state;
}

ncclComm_t Join(Communicator& world) {
  ncclUniqueId id;
  if (world.rank() == 0) ncclGetUniqueId(&id);
  std::string text(id.internal, sizeof(id.internal));
  world.BroadcastText(&text, 0, "id");
  std::copy(text.begin(), text.end(), id.internal);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  ncclCommInitRankConfig(&comm, world.size(), id, world.rank(), &config);
  CHECK_EQ(StateOf(comm), ncclSuccess);
  return comm;
}

TEST(EmulatedNcclDeathTest, RefusesASendWithoutAReceive) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(RunDeviceRanks(2, GpuContext,
                              [](Context& context, Communicator& world) {
                                ncclComm_t comm = Join(world);
                                const Buffer x(DeviceKind::kCuda, 64);
                                ncclSend(x.data(), 16, ncclFloat32, 1 - world.rank(), comm,
                                         context.cuda().stream);
                                StateOf(comm);
                                Synchronize(context);
                              }),
               "a send without a receive");
}

TEST(EmulatedNcclDeathTest, RefusesMemoryThatOverlaps) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(RunDeviceRanks(2, GpuContext,
                              [](Context& context, Communicator& world) {
                                ncclComm_t comm = Join(world);
                                const Buffer x(DeviceKind::kCuda, 64);
                                // Rank 1's part belongs behind rank 0's.
                                ncclAllGather(x.data(), x.data(), 8, ncclFloat32, comm,
                                              context.cuda().stream);
                              }),
               "overlaps, and not in place");
}

TEST(EmulatedNcclDeathTest, RefusesTwoRanksOnOneGpu) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(RunDeviceRanks(
                  2, [](int) { return GpuContext(0); },
                  [](Context& context, Communicator& world) {
                    MakeNcclCommunicator(MakeNcclEngine(context, world, {}), world);
                  }),
              ::testing::ExitedWithCode(1), "start of NCCL over world: NCCL failed");
}

TEST(EmulatedNcclDeathTest, SeesWhatIsWrittenBesideAnOperation) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(RunDeviceRanks(2, GpuContext,
                              [](Context& context, Communicator& world) {
                                const auto engine = MakeNcclEngine(context, world, {});
                                const auto nccl = MakeNcclCommunicator(engine, world);
                                const Buffer x(DeviceKind::kCuda, 64);
                                const TensorView view(x.data(), DType::kF32, {16});
                                if (world.rank() == 1) world.Barrier("rank 0 has written");
                                auto sum = nccl->StartAllReduce(view, ReduceOp::kSum, "test");
                                if (world.rank() == 0) {
                                  // The engine has it begun on the device by then.
                                  std::this_thread::sleep_for(std::chrono::milliseconds(300));
                                  FillBytes(context, x.data(), 0, 64);
                                  Synchronize(context);
                                  world.Barrier("rank 0 has written");
                                }
                                sum.Wait();
                                Synchronize(context);
                              }),
               "memory of an operation was written to before it was done");
}

}  // namespace
}  // namespace entrain
#endif
