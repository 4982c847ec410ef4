#include "parallel/param_set.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "parallel/owned_ranges.h"

namespace entrain {
namespace {

// Two matrices, of which one is padded, a factor, and vectors between them.
struct Declared {
  ParamSet params;
  ParamId embedding = params.Add(
      {.name = "embedding", .shape = {5, 6}, .scale = 1.0F, .padded_rows = 8, .matrix = true});
  ParamId gain = params.Add({.name = "gain", .shape = {7}});
  ParamId raw = params.Add({.name = "raw", .shape = {4, 6}, .matrix = true, .factor = true});
  ParamId matrix = params.Add({.name = "matrix", .shape = {6, 9}, .matrix = true});
  ParamId bias = params.Add({.name = "bias", .shape = {9}});

  std::vector<ParamId> all() const { return {embedding, gain, raw, matrix, bias}; }
};

TEST(ParamSetTest, Fp32ReadsTheValuesThemselves) {
  Declared d;
  d.params.Allocate(DeviceKind::kCpu, DType::kF32, false, ElementRange{0, 10});
  for (const ParamId id : d.all()) {
    EXPECT_TRUE(d.params.is_whole(id));
    EXPECT_EQ(d.params.compute(id).raw(), d.params.value(id).raw());
  }
  EXPECT_EQ(d.params.whole_values().size(), d.params.flat_size());
  EXPECT_EQ(d.params.copies().size(), 0);
}

TEST(ParamSetTest, OnlyMatricesThatAreMultipliedWithAreCopied) {
  Declared d;
  d.params.Allocate(DeviceKind::kCpu, DType::kBf16, false);
  for (const ParamId id : d.all()) {
    const bool copied = id.index == d.embedding.index || id.index == d.matrix.index;
    EXPECT_EQ(d.params.has_copy(id), copied) << d.params.spec(id).name;
    EXPECT_EQ(d.params.compute(id).dtype(), copied ? DType::kBf16 : DType::kF32);
  }
}

// Every rank of three sets the same values, holds its range of those that are copied, and all of the rest.
TEST(ParamSetTest, RangesOfRanksMakeUpTheWhole) {
  constexpr int kRanks = 3;
  std::vector<float> values(100);
  std::iota(values.begin(), values.end(), 1.0F);
  std::vector<int64_t> held(5, 0);
  const auto context = Context::CreateCpu(1).value();
  const std::vector<ElementRange> ranges = OwnedRanges(Declared().params, kRanks);
  for (const ElementRange& range : ranges) {
    Declared d;
    d.params.Allocate(DeviceKind::kCpu, DType::kBf16, true, range);
    for (const ParamId id : d.all()) {
      d.params.SetValue(*context, id, values.data());
      const ElementRange part = d.params.Held(id);
      held[static_cast<size_t>(id.index)] += part.size();
      EXPECT_TRUE(d.params.has_copy(id) || d.params.is_whole(id));
      const auto* data = d.params.HeldValue(id, part).data<float>();
      const int64_t given = d.params.spec(id).shard.elements();
      for (int64_t i = 0; i < part.size(); ++i) {
        const int64_t at = part.begin - d.params.offset(id) + i;
        EXPECT_EQ(data[i], at < given ? values[static_cast<size_t>(at)] : 0.0F);
      }
    }
  }
  Declared d;
  for (const ParamId id : d.all()) {
    const bool copied = id.index == d.embedding.index || id.index == d.matrix.index;
    EXPECT_EQ(held[static_cast<size_t>(id.index)],
              d.params.padded_size(id) * (copied ? 1 : kRanks));
  }
}

TEST(ParamSetTest, RangesCoverWhatIsExchangedInOnePiece) {
  Declared d;
  const std::vector<ElementRange> ranges = OwnedRanges(d.params, 4);
  d.params.Allocate(DeviceKind::kCpu, DType::kBf16, true, ranges[1]);
  int64_t values = 0;
  int64_t copies = 0;
  for (const ElementRange& range : ranges) {
    EXPECT_EQ(d.params.InWholeValues(range).begin, values);
    EXPECT_EQ(d.params.InCopies(range).begin, copies);
    values = d.params.InWholeValues(range).end;
    copies = d.params.InCopies(range).end;
  }
  EXPECT_EQ(values, d.params.whole_values().size());
  EXPECT_EQ(copies, d.params.copies().size());
  // Each parameter's own range is where its view lies.
  for (const ParamId id : d.all()) {
    const ElementRange flat = d.params.FlatRange(id);
    const auto* begin =
        d.params.has_copy(id)
            ? static_cast<const void*>(d.params.copies().data<Bf16>() +
                                       d.params.InCopies(flat).begin)
            : d.params.whole_values().data<float>() + d.params.InWholeValues(flat).begin;
    EXPECT_EQ(begin, d.params.compute(id).raw()) << d.params.spec(id).name;
  }
}

TEST(ParamSetTest, MemoryIsWhatIsHeld) {
  Declared d;
  const int64_t flat = d.params.flat_size();
  const int64_t copied = 64 + 64;  // 48 and 54 elements, to cache lines
  EXPECT_EQ(d.params.BytesNeeded(DType::kF32, true), 8 * flat);
  EXPECT_EQ(d.params.BytesNeeded(DType::kF32, true, ElementRange{0, 10}), 8 * flat);
  EXPECT_EQ(d.params.BytesNeeded(DType::kBf16, true), 8 * flat + 2 * copied);
  const ElementRange embedding{0, 64};
  EXPECT_EQ(d.params.BytesNeeded(DType::kBf16, true, embedding), 8 * flat + 2 * copied - 4 * 64);
}

using ParamSetDeathTest = ::testing::Test;

TEST(ParamSetDeathTest, AValueThatIsHeldInPartIsNotReadWhole) {
  Declared d;
  d.params.Allocate(DeviceKind::kCpu, DType::kBf16, true, ElementRange{0, 6});
  EXPECT_DEATH(d.params.value(d.matrix), "matrix is held in part");
  EXPECT_DEATH(d.params.HeldValue(d.embedding, {0, 12}), "embedding: .0, 12. is not held");
}

}  // namespace
}  // namespace entrain
