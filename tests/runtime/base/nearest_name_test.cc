#include "runtime/base/nearest_name.h"

#include <gtest/gtest.h>

namespace entrain {
namespace {

TEST(EditDistance, CountsInsertionsDeletionsSubstitutionsAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("abc", ""), 3);
  EXPECT_EQ(EditDistance("heads", "heads"), 0);
  EXPECT_EQ(EditDistance("heads", "head"), 1);
  EXPECT_EQ(EditDistance("heads", "headss"), 1);
  EXPECT_EQ(EditDistance("heads", "heaps"), 1);
  EXPECT_EQ(EditDistance("heads", "haeds"), 1);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("ca", "abc"), 3);  // a swapped pair is not edited again
}

TEST(NearestName, FindsTheNearest) {
  const std::vector<std::string> keys = {"heads", "width", "layers", "learning_rate"};
  EXPECT_EQ(NearestName("haeds", keys), "heads");
  EXPECT_EQ(NearestName("layer", keys), "layers");
  EXPECT_EQ(NearestName("lerning_rat", keys), "learning_rate");
}

TEST(NearestName, AllowsAThirdOfTheWordButAtLeastTwo) {
  EXPECT_EQ(NearestName("ab", {"abcd"}), "abcd");
  EXPECT_EQ(NearestName("ab", {"abcde"}), "");
  EXPECT_EQ(NearestName("abcdefghi", {"abcdef"}), "abcdef");
  EXPECT_EQ(NearestName("abcdefghi", {"abcde"}), "");
}

TEST(NearestName, TheFirstOfEquallyNearWins) {
  EXPECT_EQ(NearestName("sm-x", {"sm-g", "sm-r"}), "sm-g");
}

TEST(NearestName, CapitalsDoNotMatter) {
  EXPECT_EQ(NearestName("EREG", {"sm", "ereg"}), "ereg");
  EXPECT_EQ(NearestName("lr", {"LR"}), "LR");
}

TEST(NearestName, AWordThatSharesNoLetterIsNotNear) {
  EXPECT_EQ(NearestName("", {"sm"}), "");
  EXPECT_EQ(NearestName("5", {"sm"}), "");
}

TEST(NearestName, NothingNear) {
  EXPECT_EQ(NearestName("temperature", {"width", "heads"}), "");
  EXPECT_EQ(NearestName("width", {}), "");
}

TEST(DidYouMean, EndsAMessage) {
  EXPECT_EQ(DidYouMean("widht", {"width", "heads"}), ", did you mean 'width'?");
  EXPECT_EQ(DidYouMean("xyz", {"width", "heads"}), "");
}

}  // namespace
}  // namespace entrain
