#include "launcher/computed_by.h"

#include <gtest/gtest.h>

#include "tests/support/local_ranks.h"

namespace entrain {
namespace {

ComputedBy OnH100s() {
  return {.program = "entrain 0.1.0",
          .device = "NVIDIA H100 80GB HBM3, 79 GiB, sm_90",
          .libraries = "cuBLASLt 13.0.0",
          .collectives = "NCCL 2.28.9, NCCL_ALGO=Ring"};
}

TEST(ComputedBy, SaysNothingWhereAllIsTheSame) {
  EXPECT_EQ(ComputedOtherwise(OnH100s(), OnH100s()), "");
}

TEST(ComputedBy, SaysNothingOfWhatWasNotRecordedOrIsNotThere) {
  EXPECT_EQ(ComputedOtherwise({}, OnH100s()), "");
  ComputedBy alone = OnH100s();
  alone.collectives.clear();
  EXPECT_EQ(ComputedOtherwise(OnH100s(), alone), "");
  EXPECT_EQ(ComputedOtherwise(alone, OnH100s()), "");
}

TEST(ComputedBy, NamesWhatIsOtherInALine) {
  ComputedBy now = OnH100s();
  now.libraries = "cuBLASLt 13.1.0";
  now.collectives = "NCCL 2.28.9, NCCL_ALGO=Tree";
  EXPECT_EQ(ComputedOtherwise(OnH100s(), now),
            "computed otherwise than the checkpoint: libraries cuBLASLt 13.0.0 -> cuBLASLt 13.1.0; "
            "collectives NCCL 2.28.9, NCCL_ALGO=Ring -> NCCL 2.28.9, NCCL_ALGO=Tree. From here on "
            "last bits may differ from those of a run that was never interrupted");
}

// Two ranks with a thread, one with two.
TEST(ComputedBy, IsWhatAllRanksHave) {
  RunLocalRanks(3, [](Communicator& world) {
    RunDevice device;
    device.context = Context::CreateCpu(world.rank() == 1 ? 2 : 1).value();
    device.collectives = {.backend = "NCCL 2.28.9",
                          .settings = "NCCL_ALGO=Tree (from the environment), NCCL_PROTO=Simple"};
    const ComputedBy by = WhatComputes(device, world);
    EXPECT_EQ(by.program, "entrain " ENTRAIN_VERSION);
    EXPECT_EQ(by.device, Context::CreateCpu(1).value()->Description() + " and " +
                             Context::CreateCpu(2).value()->Description());
    EXPECT_EQ(by.libraries.rfind("oneDNN ", 0), 0U) << by.libraries;
    EXPECT_EQ(by.collectives, "NCCL 2.28.9, NCCL_ALGO=Tree, NCCL_PROTO=Simple");
  });
}

}  // namespace
}  // namespace entrain
