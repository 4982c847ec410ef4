#include "launcher/gpu_peak.h"

#include <gtest/gtest.h>

#include "tests/support/local_ranks.h"

namespace entrain {
namespace {

DeviceFacts Gpu(const char* identity, double peak) {
  return {.identity = identity, .limits = {.bf16_flops = peak}};
}

TEST(GpuPeak, IsThatOfAllGpus) {
  EXPECT_EQ(SumOfPeaks({Gpu("host 1", 989e12)}), 989e12);
  EXPECT_EQ(SumOfPeaks({Gpu("host 1", 989e12), Gpu("host 2", 312e12)}), 1301e12);
}

TEST(GpuPeak, CountsAGpuThatRanksShareOnce) {
  EXPECT_EQ(SumOfPeaks({Gpu("host 1", 989e12), Gpu("host 2", 989e12), Gpu("host 1", 989e12)}),
            2 * 989e12);
}

TEST(GpuPeak, RanksAreCountedByDevice) {
  const std::vector<DeviceFacts> all = {Gpu("host 1", 1.0), Gpu("host 2", 1.0), Gpu("host 1", 1.0)};
  EXPECT_EQ(RanksOnDevice(all, 0), 2);
  EXPECT_EQ(RanksOnDevice(all, 1), 1);
  EXPECT_EQ(RanksOnDevice(all, 2), 2);
}

TEST(GpuPeak, IsNotKnownWhereThatOfOneIsNot) {
  EXPECT_EQ(SumOfPeaks({Gpu("host 1", 989e12), Gpu("host 2", 0.0)}), 0.0);
}

TEST(GpuPeak, IsNothingOnTheCpu) {
  RunLocalRanks(2, [](Communicator& world) {
    const auto context = Context::CreateCpu(1).value();
    const std::vector<DeviceFacts> all = FactsOfRanks(*context, world);
    EXPECT_EQ(SumOfPeaks(all), 0.0);
    EXPECT_EQ(RanksOnDevice(all, world.rank()), 2);  // of one host
  });
}

}  // namespace
}  // namespace entrain
