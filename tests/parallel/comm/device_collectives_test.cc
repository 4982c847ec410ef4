#include "parallel/comm/device_collectives.h"

#include <gtest/gtest.h>

namespace entrain {
namespace {

NcclOfRanks Three() {
  return {.versions = {"2.28.9", "2.28.9", "2.28.9"},
          .lacks = {"", "", ""},
          .devices = {"host a, GPU 0", "host a, GPU 1", "host b, GPU 0"},
          .settings = {"NCCL_PROTO=Simple", "NCCL_PROTO=Simple", "NCCL_PROTO=Simple"}};
}

TEST(WhyNotNcclTest, IsNothingForRanksThatAreAlikeAndHaveAGpuEach) {
  EXPECT_EQ(WhyNotNccl(Three()), "");
}

TEST(WhyNotNcclTest, NamesRanksThatLackItOrDiffer) {
  NcclOfRanks ranks = Three();
  ranks.lacks[1] = "no library";
  EXPECT_EQ(WhyNotNccl(ranks), "rank 1: no library");
  ranks.lacks = {"no library", "no library", "no library"};
  EXPECT_EQ(WhyNotNccl(ranks), "no library");
  ranks = Three();
  ranks.versions[2] = "2.27.3";
  EXPECT_EQ(WhyNotNccl(ranks), "rank 0 has NCCL 2.28.9 and rank 2 NCCL 2.27.3");
  ranks = Three();
  ranks.devices[2] = ranks.devices[0];
  EXPECT_EQ(WhyNotNccl(ranks), "ranks 0 and 2 share one GPU, which NCCL does not allow");
}

// mpirun gives the variables of the shell to the ranks of its own host alone.
TEST(WhyNotNcclTest, NamesSettingsThatDiffer) {
  NcclOfRanks ranks = Three();
  ranks.settings[2] = "NCCL_PROTO=LL128";
  EXPECT_EQ(WhyNotNccl(ranks),
            "rank 0 has NCCL_PROTO=Simple and rank 2 NCCL_PROTO=LL128: give all hosts the same "
            "variables of NCCL (mpirun -x NAME)");
}

}  // namespace
}  // namespace entrain
