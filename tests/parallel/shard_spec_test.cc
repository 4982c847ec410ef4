#include "parallel/shard_spec.h"

#include <gtest/gtest.h>

#include <numeric>

namespace entrain {
namespace {

using Shape = std::vector<int64_t>;

// Every element of the whole tensor that the shards hold, by runs: how often each is held.
std::vector<int> TimesHeld(const std::vector<ShardSpec>& shards) {
  std::vector<int> times(static_cast<size_t>(shards[0].whole_elements()));
  for (const ShardSpec& shard : shards) {
    int64_t next = 0;
    shard.ForEachRun([&](int64_t local, int64_t whole, int64_t count) {
      EXPECT_EQ(local, next) << "runs are dense and ascending";
      next = local + count;
      for (int64_t i = 0; i < count; ++i) ++times.at(static_cast<size_t>(whole + i));
    });
    EXPECT_EQ(next, shard.elements());
  }
  return times;
}

TEST(ShardSpecTest, AWholeTensorIsOneRun) {
  const ShardSpec spec = ShardSpec::Whole({6, 4});
  EXPECT_FALSE(spec.is_cut());
  EXPECT_EQ(spec.LocalShape(), Shape({6, 4}));
  int runs = 0;
  spec.ForEachRun([&](int64_t local, int64_t whole, int64_t count) {
    ++runs;
    EXPECT_EQ(local, 0);
    EXPECT_EQ(whole, 0);
    EXPECT_EQ(count, 24);
  });
  EXPECT_EQ(runs, 1);
}

TEST(ShardSpecTest, CutsCoverEveryElementOnce) {
  struct Case {
    Shape shape;
    int dim;
    int64_t groups;
    Shape local;
  };
  for (const Case& c : {Case{{6, 12}, 0, 1, {3, 12}}, Case{{6, 12}, 1, 1, {6, 6}},
                        Case{{6, 12}, 1, 3, {6, 6}}, Case{{12}, 0, 3, {6}}, Case{{8}, 0, 1, {4}}}) {
    std::vector<ShardSpec> shards;
    for (int rank = 0; rank < 2; ++rank) {
      shards.push_back(ShardSpec::Cut(c.shape, c.dim, {rank, 2}, c.groups));
      EXPECT_TRUE(shards.back().is_cut());
      EXPECT_EQ(shards.back().LocalShape(), c.local);
    }
    EXPECT_EQ(TimesHeld(shards), std::vector<int>(TimesHeld(shards).size(), 1));
  }
}

TEST(ShardSpecTest, EveryGroupOfColumnsIsCut) {
  // Rows of q0 q1 k0 k1 v0 v1: the second of two ranks holds q1 k1 v1.
  const ShardSpec spec = ShardSpec::Cut({2, 6}, 1, {1, 2}, 3);
  std::vector<int64_t> held;
  spec.ForEachRun([&](int64_t /*local*/, int64_t whole, int64_t count) {
    for (int64_t i = 0; i < count; ++i) held.push_back(whole + i);
  });
  EXPECT_EQ(held, Shape({1, 3, 5, 7, 9, 11}));
}

TEST(ShardSpecTest, OneRankHoldsTheWhole) {
  const ShardSpec spec = ShardSpec::Cut({5, 9}, 1, {0, 1}, 3);
  EXPECT_FALSE(spec.is_cut());
  EXPECT_EQ(spec.LocalShape(), Shape({5, 9}));
  EXPECT_EQ(TimesHeld({spec}), std::vector<int>(45, 1));
}

TEST(ShardSpecTest, RowsMayEndEarlyOrBeNone) {
  const std::vector<ShardSpec> shards = {ShardSpec::Rows({17, 3}, 0, 16, 3),
                                         ShardSpec::Rows({17, 3}, 16, 16, 3),
                                         ShardSpec::Rows({17, 3}, 32, 16, 3)};
  EXPECT_TRUE(ShardSpec::Rows({3, 2}, 0, 16, 2).is_cut()) << "all of it here, nothing elsewhere";
  EXPECT_EQ(shards[1].LocalShape(), Shape({1, 3}));
  EXPECT_EQ(shards[2].LocalShape(), Shape({0, 3}));
  EXPECT_EQ(TimesHeld(shards), std::vector<int>(51, 1));
}

}  // namespace
}  // namespace entrain
