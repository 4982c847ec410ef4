// Threads of a rank, and what the banner says of them.
#include "launcher/thread_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace entrain {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr char kBinding[] =
    "mpirun binds one or two ranks to a core each unless --bind-to none is given";

TEST(ThreadPlanTest, ARankAloneTakesEveryCoreItMayUse) {
  const ThreadPlan plan = PlanThreads(0, {.mine = 4, .of_ours = 4, .of_host = 4}, "");
  EXPECT_EQ(plan.threads, 4);
  EXPECT_EQ(plan.text, "4 a rank: one for each core that it may use");
  EXPECT_THAT(plan.notes, IsEmpty());
}

// As in a container, or under taskset: meant so.
TEST(ThreadPlanTest, ANarrowMaskWithoutALauncherIsNoMistake) {
  EXPECT_THAT(PlanThreads(0, {.mine = 1, .of_ours = 1, .of_host = 64}, "").notes, IsEmpty());
}

TEST(ThreadPlanTest, RanksShareCoresThatSeveralOfThemMayUse) {
  const ThreadPlan plan =
      PlanThreads(0, {.mine = 64, .of_ours = 64, .of_host = 64, .ranks = 4}, "mpirun");
  EXPECT_EQ(plan.threads, 16);
  EXPECT_EQ(plan.text, "16 a rank: the 4 ranks of this host share 64 cores");
  EXPECT_THAT(plan.notes, IsEmpty());
  EXPECT_EQ(PlanThreads(0, {.mine = 2, .of_ours = 2, .of_host = 2, .ranks = 2}, "mpirun").threads,
            1);
}

// The masks of ranks in a container are all the container's: of the host's cores they share those few.
TEST(ThreadPlanTest, RanksOfANarrowedHostShareWhatItGivesThem) {
  const ThreadPlan plan =
      PlanThreads(0, {.mine = 4, .of_ours = 4, .of_host = 64, .ranks = 2}, "mpirun");
  EXPECT_EQ(plan.threads, 2);
  EXPECT_EQ(plan.text, "2 a rank: the 2 ranks of this host share 4 of 64 cores");
  EXPECT_THAT(plan.notes, IsEmpty());
}

TEST(ThreadPlanTest, RanksBoundToCoresOfTheirOwnUseThem) {
  const ThreadPlan plan =
      PlanThreads(0, {.mine = 16, .of_ours = 64, .of_host = 64, .ranks = 4}, "srun --mpi=pmix");
  EXPECT_EQ(plan.threads, 16);
  EXPECT_EQ(plan.text, "16 a rank: one for each core that it may use");
  EXPECT_THAT(plan.notes, IsEmpty());
}

TEST(ThreadPlanTest, TheConfigurationHasItsWill) {
  const ThreadPlan plan =
      PlanThreads(3, {.mine = 8, .of_ours = 8, .of_host = 8, .ranks = 2}, "mpirun");
  EXPECT_EQ(plan.threads, 3);
  EXPECT_EQ(plan.text, "3 a rank: train.threads");
  EXPECT_THAT(plan.notes, IsEmpty());
}

TEST(ThreadPlanTest, MoreThreadsThanCoresAreNamed) {
  const HostCores two{.mine = 2, .of_ours = 2, .of_host = 2};
  EXPECT_THAT(PlanThreads(3, two, "").notes,
              ElementsAre("1 rank x 3 threads share 2 cores of this host: lower train.threads"));
  HostCores four_ranks = two;
  four_ranks.ranks = 4;
  EXPECT_THAT(PlanThreads(2, four_ranks, "mpirun").notes,
              ElementsAre("4 ranks x 2 threads share 2 cores of this host: lower train.threads or "
                          "start fewer ranks"));
  const ThreadPlan open = PlanThreads(0, four_ranks, "mpirun");
  EXPECT_EQ(open.threads, 1);
  EXPECT_THAT(open.notes,
              ElementsAre("4 ranks x 1 thread share 2 cores of this host: start fewer ranks"));
}

TEST(ThreadPlanTest, BindingThatLeavesCoresIdleIsNamed) {
  const HostCores bound{.mine = 1, .of_ours = 2, .of_host = 16, .ranks = 2};
  EXPECT_THAT(
      PlanThreads(0, bound, "mpirun").notes,
      ElementsAre(std::string("a rank may use 1 of the 16 cores of this host: ") + kBinding));
  EXPECT_THAT(PlanThreads(8, bound, "mpirun").notes,
              ElementsAre(std::string("2 ranks x 8 threads share 2 of 16 cores of this host: lower "
                                      "train.threads or start fewer ranks; ") +
                          kBinding));
  // A core each, and none is idle.
  EXPECT_THAT(PlanThreads(0, {.mine = 1, .of_ours = 2, .of_host = 2, .ranks = 2}, "mpirun").notes,
              IsEmpty());
}

}  // namespace
}  // namespace entrain
