#include "parallel/owned_ranges.h"

#include <gtest/gtest.h>

#include <numeric>

namespace entrain {
namespace {

// Parameters of every kind, as rank `rank` of two holds them.
ParamSet Parameters(int rank) {
  ParamSet params;
  const ShardPlace place{rank, 2};
  params.Add(
      {.name = "table", .padded_rows = 64, .shard = ShardSpec::Rows({70, 6}, rank * 64, 64, 2)});
  params.Add({.name = "columns", .shard = ShardSpec::Cut({5, 12}, 1, place, 3)});
  params.Add({.name = "grouped bias", .shard = ShardSpec::Cut({12}, 0, place, 3)});
  params.Add({.name = "rows", .shard = ShardSpec::Cut({8, 3}, 0, place)});
  params.Add({.name = "vector", .shape = {37}});
  params.Add({.name = "scalar", .shape = {1}});
  return params;
}

TEST(OwnedRangesTest, CoverTheFlatBufferInOrder) {
  const ParamSet params = Parameters(0);
  for (const int ranks : {1, 2, 3, 4, 7, 100}) {
    int64_t next = 0;
    for (const ElementRange& range : OwnedRanges(params, ranks)) {
      EXPECT_EQ(range.begin, next);
      next = range.end;
    }
    EXPECT_EQ(next, params.flat_size());
  }
}

TEST(OwnedRangesTest, AreEvenToOneRow) {
  ParamSet params;
  params.Add({.name = "a", .shape = {1000, 30}});
  params.Add({.name = "b", .shape = {30, 1000}});
  for (const int ranks : {2, 3, 7}) {
    constexpr int64_t kLongestRow = 1000;
    EXPECT_LE(LargestOwned(params, ranks), params.flat_size() / ranks + kLongestRow + 32);
  }
}

// Over tp and dp ranks together every element of every whole tensor has one owner.
TEST(OwnedRangesTest, EveryElementHasOneOwner) {
  for (const int ranks : {1, 2, 3, 5}) {
    const int num_params = Parameters(0).size();
    for (int i = 0; i < num_params; ++i) {
      std::vector<int> owners;
      for (int tp_rank = 0; tp_rank < 2; ++tp_rank) {
        const ParamSet params = Parameters(tp_rank);
        const ShardSpec& shard = params.spec({i}).shard;
        owners.resize(static_cast<size_t>(shard.whole_elements()));
        if (!shard.is_cut() && tp_rank > 0) continue;
        for (const ElementRange& range : OwnedRanges(params, ranks)) {
          ShardSpec owned = shard;
          const OwnedPart part = PartOf(params, {i}, range);
          owned.box = part.box;
          EXPECT_LE(owned.elements(), part.flat.size());
          owned.ForEachRun([&](int64_t /*local*/, int64_t whole, int64_t count) {
            for (int64_t k = 0; k < count; ++k) ++owners[static_cast<size_t>(whole + k)];
          });
        }
      }
      EXPECT_EQ(owners, std::vector<int>(owners.size(), 1))
          << Parameters(0).spec({i}).name << " over " << ranks;
    }
  }
}

}  // namespace
}  // namespace entrain
