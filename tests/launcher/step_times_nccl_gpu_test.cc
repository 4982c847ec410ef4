// StepClock where collectives are the device's, and the host is ahead of them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>

#include "launcher/step_times.h"
#include "parallel/comm/communicator_nccl.h"
#include "parallel/comm/device_collectives.h"
#include "runtime/device/buffer.h"
#include "runtime/device/device_memory.h"
#include "tests/support/gpu_test.h"
#include "tests/support/local_ranks.h"

namespace entrain {
namespace {

// Before the emulated GPU is first asked.
[[maybe_unused]] const int kEmulatedGpuIsSet = setenv("ENTRAIN_EMULATED_DEVICES", "2", 0);

double Communication(const StepTimes& times) {
  return times.communication_exposed + times.communication_hidden;
}

TEST(StepClockNcclTest, ChargesCollectivesToTheStepAndSectionThatWaitedForThem) {
  ENTRAIN_REQUIRE_GPU();
  if (!NcclVersion().ok()) GTEST_SKIP() << NcclVersion().status().message();
  if (*Context::CudaDevices() < 2) GTEST_SKIP() << "one GPU";
  OnLocalRanks(2, [](std::unique_ptr<Communicator> world) {
    const auto context = std::move(Context::CreateCuda(world->rank(), 1)).value();
    const DeviceCollectives device = ChooseDeviceCollectives(*context, *world);
    const Mesh mesh(std::move(world), {.dp = 2}, device);
    constexpr int64_t kCount = 1 << 20;
    const Buffer memory(DeviceKind::kCuda, kCount * 4);
    const TensorView x(memory.data(), DType::kF32, {kCount});
    StepClock clock(*context, mesh);
    // Steps of which all is issued before the device begins.
    for (const StepClock::Section section : {&StepTimes::entropy, &StepTimes::backward}) {
      clock.BeginOps();
      clock.Enter(section);
      mesh.device_dp().AllReduce(x, ReduceOp::kSum, "test");
      clock.Enter(&StepTimes::optimizer);
      FillBytes(*context, memory.data(), 0, kCount * 4);
      clock.Enter(nullptr);
      Synchronize(*context);
      const StepTimes times = clock.Take();
      EXPECT_GT(Communication(times), 0.0);
      EXPECT_EQ(times.entropy_reduction,
                section == &StepTimes::entropy ? times.communication_exposed : 0.0);
    }
    clock.BeginOps();
    clock.Enter(&StepTimes::forward);
    clock.Enter(nullptr);
    Synchronize(*context);
    EXPECT_EQ(Communication(clock.Take()), 0.0) << "of the step before";
  });
}

}  // namespace
}  // namespace entrain
