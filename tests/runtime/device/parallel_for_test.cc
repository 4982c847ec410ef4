#include "runtime/device/parallel_for.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "runtime/base/philox.h"

namespace entrain {
namespace {

class ParallelForThreads : public ::testing::TestWithParam<int> {
 protected:
  std::unique_ptr<Context> context_ = Context::CreateCpu(GetParam()).value();
};

TEST_P(ParallelForThreads, RunsEveryTaskOnce) {
  for (const int64_t num_tasks : {0, 1, 2, 3, 7, 100}) {
    std::vector<int> runs(static_cast<size_t>(num_tasks), 0);
    ParallelFor(*context_, num_tasks, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
    EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(num_tasks), 1));
  }
}

TEST_P(ParallelForThreads, ChunksCoverTheRangeInFixedSizes) {
  for (const int64_t size : {0, 1, 9, 10, 11, 95}) {
    constexpr int64_t kChunk = 10;
    std::vector<int> covered(static_cast<size_t>(size), 0);
    ParallelForChunks(*context_, size, kChunk, [&](int64_t begin, int64_t end) {
      EXPECT_EQ(begin % kChunk, 0);
      EXPECT_EQ(end, std::min(size, begin + kChunk));
      for (int64_t i = begin; i < end; ++i) ++covered[static_cast<size_t>(i)];
    });
    EXPECT_EQ(covered, std::vector<int>(static_cast<size_t>(size), 1));
  }
}

// Terms of very different size, so that another order of summation would show in the last bits.
double UnevenSum(const Context& context, int64_t chunk) {
  return SumChunks(context, 5000, chunk, [](int64_t begin, int64_t end) {
    double sum = 0.0;
    for (int64_t i = begin; i < end; ++i) {
      const double x = NormalAt(1, 1, static_cast<uint64_t>(i));
      sum += x * x * x * 1e6 + 1e-6 * x;
    }
    return sum;
  });
}

TEST_P(ParallelForThreads, SumsAreTheSameForAnyNumberOfThreads) {
  const auto single = Context::CreateCpu(1).value();
  for (const int64_t chunk : {1, 64, 4999, 10000}) {
    EXPECT_EQ(UnevenSum(*context_, chunk), UnevenSum(*single, chunk));
  }
}

TEST_P(ParallelForThreads, EmptySumIsZero) {
  EXPECT_EQ(SumChunks(*context_, 0, 8, [](int64_t, int64_t) { return 1.0; }), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Threads, ParallelForThreads, ::testing::Values(1, 2, 3, 16));

// The control of the test above: the chunk, unlike the thread, is part of a sum's definition.
TEST(SumChunks, DependsOnTheChunk) {
  const auto context = Context::CreateCpu(1).value();
  EXPECT_NE(UnevenSum(*context, 1), UnevenSum(*context, 64));
}

}  // namespace
}  // namespace entrain
