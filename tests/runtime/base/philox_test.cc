#include "runtime/base/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

namespace entrain {
namespace {

using Words = std::array<uint32_t, 4>;

// Random123's kat_vectors for philox4x32-10. There a counter is four words and a key two, least significant first; here
// words 0 and 1 are `counter`, 2 and 3 `stream`, and the key is `seed`.
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(Philox(0, 0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint64_t kOnes = ~uint64_t{0};
  EXPECT_EQ(Philox(kOnes, kOnes, kOnes), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0 (digits of pi)
  EXPECT_EQ(Philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, EveryArgumentCountsInBothHalves) {
  std::set<Words> seen = {Philox(0, 0, 0)};
  for (const uint64_t bit :
       {uint64_t{1}, uint64_t{1} << 31, uint64_t{1} << 32, uint64_t{1} << 63}) {
    EXPECT_TRUE(seen.insert(Philox(bit, 0, 0)).second);
    EXPECT_TRUE(seen.insert(Philox(0, bit, 0)).second);
    EXPECT_TRUE(seen.insert(Philox(0, 0, bit)).second);
  }
}

TEST(Philox, UniformFloatStaysBelowOne) {
  EXPECT_EQ(UniformFloat(0), 0.0F);
  EXPECT_EQ(UniformFloat(0xff), 0.0F);
  EXPECT_EQ(UniformFloat(0x100), 0x1p-24F);
  EXPECT_EQ(UniformFloat(0xffffffff), 1.0F - 0x1p-24F);
}

// FNV-1a, 64 bits: the offset basis for the empty string, published values for others.
TEST(Philox, StreamOfIsFnv1a) {
  EXPECT_EQ(StreamOf(""), 0xcbf29ce484222325);
  EXPECT_EQ(StreamOf("a"), 0xaf63dc4c8601ec8c);
  EXPECT_EQ(StreamOf("foobar"), 0x85944171f73967e8);
  EXPECT_NE(StreamOf("\xff"), StreamOf("\x7f"));
}

TEST(Normal, HasTheMomentsOfAStandardNormal) {
  constexpr int kCount = 200000;
  double sums[4] = {};
  int beyond_two = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = NormalAt(11, 5, static_cast<uint64_t>(i));
    ASSERT_TRUE(std::isfinite(x));
    double power = 1.0;
    for (double& sum : sums) sum += power *= x;
    beyond_two += std::abs(x) > 2.0 ? 1 : 0;
  }
  // Five standard errors of each moment: √(1, 2, 15, 96)/√n.
  const double root = std::sqrt(static_cast<double>(kCount));
  EXPECT_NEAR(sums[0] / kCount, 0.0, 5.0 / root);
  EXPECT_NEAR(sums[1] / kCount, 1.0, 5.0 * std::sqrt(2.0) / root);
  EXPECT_NEAR(sums[2] / kCount, 0.0, 5.0 * std::sqrt(15.0) / root);
  EXPECT_NEAR(sums[3] / kCount, 3.0, 5.0 * std::sqrt(96.0) / root);
  EXPECT_NEAR(static_cast<double>(beyond_two) / kCount, 0.0455, 0.0025);
}

TEST(Normal, NeighboursSeedsAndStreamsAreUncorrelated) {
  constexpr int kCount = 50000;
  double neighbours = 0.0;
  double seeds = 0.0;
  double streams = 0.0;
  for (uint64_t i = 0; i < kCount; ++i) {
    const double x = NormalAt(1, 1, i);
    neighbours += x * NormalAt(1, 1, i + 1);
    seeds += x * NormalAt(2, 1, i);
    streams += x * NormalAt(1, 2, i);
  }
  const double five_errors = 5.0 * std::sqrt(static_cast<double>(kCount));
  EXPECT_LT(std::abs(neighbours), five_errors);
  EXPECT_LT(std::abs(seeds), five_errors);
  EXPECT_LT(std::abs(streams), five_errors);
}

TEST(Normal, IsAFunctionOfItsArguments) {
  EXPECT_EQ(NormalAt(3, 4, 5), NormalAt(3, 4, 5));
  EXPECT_NE(NormalAt(3, 4, 5), NormalAt(3, 4, 4));
  EXPECT_NE(NormalAt(3, 4, 5), NormalAt(3, 5, 5));
  EXPECT_NE(NormalAt(3, 4, 5), NormalAt(4, 4, 5));
}

}  // namespace
}  // namespace entrain
