#include "parallel/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace entrain {
namespace {

using ::testing::HasSubstr;

const SourcedSize kSix{6, "mpirun -n 6"};

TEST(ResolveMeshTest, TakesTheRestForDp) {
  const auto shape = ResolveMesh(kSix, {0, "default"}, {2, "parallel.tp = 2"});
  ASSERT_TRUE(shape.ok());
  EXPECT_EQ(shape->dp, 3);
  EXPECT_EQ(shape->tp, 2);
}

TEST(ResolveMeshTest, TakesWhatIsGiven) {
  const auto shape = ResolveMesh(kSix, {6, "parallel.dp = 6"}, {1, "parallel.tp = 1"});
  ASSERT_TRUE(shape.ok());
  EXPECT_EQ(shape->dp, 6);
}

TEST(ResolveMeshTest, NamesEveryFactorOfARefusedOne) {
  const auto shape = ResolveMesh(kSix, {2, "parallel.dp = 2"}, {4, "parallel.tp = 4"});
  EXPECT_EQ(shape.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(shape.status().message());
  EXPECT_THAT(message, HasSubstr("world 6 from mpirun -n 6 is not dp 2 from parallel.dp = 2 x tp 4 "
                                 "from parallel.tp = 4"));
  EXPECT_THAT(message, HasSubstr("start 8 ranks"));
}

TEST(ResolveMeshTest, ATpThatDoesNotDivideTheWorldIsRefused) {
  for (const int64_t tp : {4, 7}) {
    const auto shape = ResolveMesh(kSix, {0, "default"}, {tp, "parallel.tp"});
    EXPECT_EQ(shape.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(shape.status().message()), HasSubstr("not a multiple of tp"));
  }
}

}  // namespace
}  // namespace entrain
