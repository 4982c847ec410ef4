#include "runtime/data/batch_sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <vector>

namespace entrain {
namespace {

// Draws [first, first + count) of the sampler, whatever its batches.
std::vector<int64_t> Draws(const BatchSampler& sampler, int64_t global_batch, int64_t first,
                           int64_t count) {
  std::vector<int64_t> draws;
  for (int64_t k = first; k < first + count; ++k) {
    draws.push_back(sampler.SequenceIndex(k / global_batch, k % global_batch));
  }
  return draws;
}

std::vector<int64_t> Epoch(uint64_t seed, int64_t n, int64_t epoch) {
  return Draws(BatchSampler(seed, n, 1, true), 1, epoch * n, n);
}

bool IsPermutation(std::vector<int64_t> values) {
  std::vector<bool> seen(values.size());
  for (const int64_t value : values) {
    if (value < 0 || value >= static_cast<int64_t>(values.size())) return false;
    if (seen[static_cast<size_t>(value)]) return false;
    seen[static_cast<size_t>(value)] = true;
  }
  return true;
}

TEST(BatchSamplerTest, EveryEpochIsAPermutation) {
  for (const int64_t n :
       {1, 2, 3, 4, 5, 7, 15, 16, 17, 63, 64, 65, 100, 1000, 1024, 4095, 4096, 4097}) {
    for (const uint64_t seed : {0, 1, 1337}) {
      for (int64_t epoch = 0; epoch < 4; ++epoch) {
        ASSERT_TRUE(IsPermutation(Epoch(seed, n, epoch))) << n << " " << seed << " " << epoch;
      }
    }
  }
}

TEST(BatchSamplerTest, AMillionSequencesAreAPermutation) {
  EXPECT_TRUE(IsPermutation(Epoch(5, 1000000, 2)));
}

TEST(BatchSamplerTest, EpochsAndSeedsDiffer) {
  EXPECT_NE(Epoch(1, 1000, 0), Epoch(1, 1000, 1));
  EXPECT_NE(Epoch(1, 1000, 0), Epoch(2, 1000, 0));
  EXPECT_NE(Epoch(1, 1000, 0), Epoch(uint64_t{1} << 40, 1000, 0));
  EXPECT_EQ(Epoch(1, 1000, 3), Epoch(1, 1000, 3));
}

TEST(BatchSamplerTest, TheOrderLooksRandom) {
  const std::vector<int64_t> order = Epoch(9, 10000, 0);
  // Of a random permutation about one element stays in place, and half of the steps rise.
  int64_t fixed = 0;
  int64_t rises = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] == static_cast<int64_t>(i)) ++fixed;
    if (i > 0 && order[i] > order[i - 1]) ++rises;
  }
  EXPECT_LE(fixed, 10);
  EXPECT_NEAR(static_cast<double>(rises), 5000.0, 200.0);
  // The first tenth of an epoch is spread over all of the data.
  const double mean = std::accumulate(order.begin(), order.begin() + 1000, 0.0) / 1000.0;
  EXPECT_NEAR(mean, 5000.0, 400.0);
}

TEST(BatchSamplerTest, SmallSetsAreShuffledEvenly) {
  std::map<std::vector<int64_t>, int> counts;
  constexpr int kEpochs = 6000;
  for (int64_t epoch = 0; epoch < kEpochs; ++epoch) ++counts[Epoch(3, 3, epoch)];
  EXPECT_EQ(counts.size(), 6);
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, kEpochs / 6, 200);
}

TEST(BatchSamplerTest, EveryPlaceIsAsLikelyForEverySequence) {
  constexpr int64_t kSize = 10;
  constexpr int64_t kEpochs = 4000;
  std::vector<int> counts(kSize * kSize);
  for (int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const std::vector<int64_t> order = Epoch(4, kSize, epoch);
    for (size_t i = 0; i < kSize; ++i) ++counts[i * kSize + static_cast<size_t>(order[i])];
  }
  // 400 each, with a standard deviation of 19.
  for (const int count : counts) EXPECT_NEAR(count, 400, 100);
}

TEST(BatchSamplerTest, HowBatchesAreCutChangesNothing) {
  const std::vector<int64_t> one = Draws(BatchSampler(6, 37, 1, true), 1, 0, 200);
  for (const int64_t global_batch : {2, 8, 37, 50}) {
    EXPECT_EQ(Draws(BatchSampler(6, 37, global_batch, true), global_batch, 0, 200), one);
  }
}

TEST(BatchSamplerTest, WithoutShuffleItIsFileOrder) {
  const BatchSampler sampler(1, 3, 2, false);
  EXPECT_EQ(Draws(sampler, 2, 0, 8), (std::vector<int64_t>{0, 1, 2, 0, 1, 2, 0, 1}));
  // A set of exactly one batch gives the same batch every step.
  const BatchSampler same(1, 4, 4, false);
  for (int64_t step = 0; step < 3; ++step) {
    for (int64_t position = 0; position < 4; ++position) {
      EXPECT_EQ(same.SequenceIndex(step, position), position);
    }
  }
}

TEST(BatchSamplerTest, LargeSetsStayInRangeAndRepeatNothing) {
  for (const int64_t n : {int64_t{1000000000}, int64_t{1} << 40, (int64_t{1} << 62) - 1}) {
    const BatchSampler sampler(8, n, 512, true);
    std::set<int64_t> seen;
    for (int64_t step = 0; step < 40; ++step) {
      for (int64_t position = 0; position < 512; ++position) {
        const int64_t index = sampler.SequenceIndex(step, position);
        ASSERT_GE(index, 0);
        ASSERT_LT(index, n);
        ASSERT_TRUE(seen.insert(index).second) << n << " " << step << " " << position;
      }
    }
  }
}

TEST(BatchSamplerTest, TheOrderIsFrozen) {
  // A change of these numbers would change the data order of every run that is resumed.
  EXPECT_EQ(Draws(BatchSampler(1337, 1000, 4, true), 4, 0, 8),
            (std::vector<int64_t>{167, 220, 754, 177, 512, 679, 252, 860}));
}

TEST(BatchSamplerTest, RefusesPositionsOutsideTheBatch) {
  const BatchSampler sampler(1, 10, 4, true);
  EXPECT_DEATH(sampler.SequenceIndex(0, 4), "CHECK|0, 4");
  EXPECT_DEATH(BatchSampler(1, 0, 4, true), "num_sequences");
}

}  // namespace
}  // namespace entrain
