#include "launcher/same_everywhere.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/local_ranks.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

absl::Status CheckAmong(const std::vector<std::string>& texts, std::vector<absl::Status>* all) {
  all->resize(texts.size());
  RunLocalRanks(static_cast<int>(texts.size()), [&](Communicator& world) {
    const auto r = static_cast<size_t>(world.rank());
    (*all)[r] = CheckSameEverywhere(world, texts[r], "the configuration", "mend it");
  });
  return all->front();
}

TEST(SameEverywhereTest, TheSameIsFine) {
  std::vector<absl::Status> all;
  EXPECT_TRUE(CheckAmong({"a\nb", "a\nb", "a\nb"}, &all).ok());
}

TEST(SameEverywhereTest, TheFirstDifferenceIsNamedOnEveryRank) {
  std::vector<absl::Status> all;
  const std::string text = "[a]\nx = 1\n\n[b]\ny = 2\nz = 3\n";
  const std::string other = "[a]\nx = 1\n\n[b]\ny = 5\nz = 4\n";
  const absl::Status status = CheckAmong({text, text, other}, &all);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the configuration of rank 2 on "));
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("is not that of rank 0: [b] y = 5 and not y = 2; mend it (rank 2)"));
  for (const absl::Status& each : all) EXPECT_EQ(each, status);
}

TEST(SameEverywhereTest, AMissingLine) {
  std::vector<absl::Status> all;
  EXPECT_THAT(std::string(CheckAmong({"a\nb", "a"}, &all).message()),
              HasSubstr("nothing and not b"));
}

}  // namespace
}  // namespace entrain
