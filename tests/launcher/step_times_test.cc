#include "launcher/step_times.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/local_ranks.h"

namespace entrain {
namespace {

void Sleep(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

TEST(StepClockTest, ChargesEachSectionAndWaitingApart) {
  OnLocalRanks(2, [](std::unique_ptr<Communicator> world) {
    const bool late = world->rank() == 1;
    const Mesh mesh(std::move(world), {.dp = 2});
    const std::unique_ptr<Context> context = *Context::CreateCpu(1);
    StepClock clock(*context, mesh);
    clock.BeginOps();
    clock.Enter(&StepTimes::forward);
    Sleep(20);
    clock.Enter(&StepTimes::backward);
    if (late) Sleep(60);
    mesh.dp().Barrier("the late one");
    clock.Enter(nullptr);
    Sleep(200);  // of no section
    const StepTimes times = clock.Take();
    EXPECT_GE(times.forward, 0.02);
    EXPECT_LT(times.forward, 0.15);
    EXPECT_EQ(times.optimizer, 0.0);
    if (late) {
      EXPECT_GE(times.backward, 0.06);
    } else {
      EXPECT_GE(times.communication_exposed, 0.03) << "it waited";
      EXPECT_LT(times.backward, times.communication_exposed);
    }
    clock.BeginOps();
    EXPECT_EQ(clock.Take().forward, 0.0) << "taken once";
  });
}

TEST(StepClockTest, TellsTheReductionOfEntropiesFromOtherWaiting) {
  OnLocalRanks(2, [](std::unique_ptr<Communicator> world) {
    const bool late = world->rank() == 1;
    const Mesh mesh(std::move(world), {.dp = 2});
    const std::unique_ptr<Context> context = *Context::CreateCpu(1);
    StepClock clock(*context, mesh);
    for (const StepClock::Section section : {&StepTimes::entropy, &StepTimes::backward}) {
      clock.Enter(section);
      if (late) Sleep(40);
      mesh.dp().Barrier("the late one");
    }
    clock.Enter(nullptr);
    const StepTimes times = clock.Take();
    if (late) return;
    EXPECT_GE(times.entropy_reduction, 0.02);
    EXPECT_GE(times.communication_exposed, times.entropy_reduction + 0.02);
  });
}

// Under way while this rank computes: hidden.
TEST(StepClockTest, WhatIsUnderWayDuringComputingIsHidden) {
  OnLocalRanks(2,
               [](std::unique_ptr<Communicator> world) {
                 const Mesh mesh(std::move(world), {.dp = 2});
                 mesh.dp().Barrier("start");
                 const std::unique_ptr<Context> context = *Context::CreateCpu(1);
                 StepClock clock(*context, mesh);
                 clock.Enter(&StepTimes::backward);
                 float value = 1.0F;
                 if (mesh.dp().rank() == 1) Sleep(40);
                 PendingCollective sum =
                     mesh.dp().StartAllReduce({&value, DType::kF32, {1}}, ReduceOp::kSum, "sum");
                 if (mesh.dp().rank() == 0) Sleep(80);
                 sum.Wait();
                 clock.Enter(nullptr);
                 const StepTimes times = clock.Take();
                 if (mesh.dp().rank() != 0) return;
                 EXPECT_GE(times.communication_hidden, 0.02);
                 EXPECT_GE(times.backward, 0.07);
               },
               {.progress_microseconds = 100});
}

TEST(StepTimesTest, SharesAreOfWhatIsDisjoint) {
  const StepTimes times{.forward = 3.0,
                        .backward = 6.0,
                        .communication_exposed = 1.0,
                        .communication_hidden = 3.0,
                        .entropy_reduction = 0.5};
  EXPECT_EQ(Describe(times),
            "data 0.0 %, forward 30.0 %, entropy 0.0 %, backward 60.0 %, optimizer 0.0 %, save "
            "0.0 %, waiting for communication 10.0 % (75 % of communication was hidden)");
  StepTimes sum = times;
  sum.Add(times);
  EXPECT_EQ(sum.forward, 6.0);
}

}  // namespace
}  // namespace entrain
