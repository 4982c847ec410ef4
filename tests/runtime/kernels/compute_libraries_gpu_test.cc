#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/kernels/attention_engine.h"
#include "runtime/kernels/compute_libraries.h"
#include "tests/support/fake_cudnn.h"

namespace entrain {
namespace {

using ::testing::EndsWith;
using ::testing::MatchesRegex;

constexpr char kWithoutCudnn[] = "cuBLASLt [0-9]+\\.[0-9]+\\.[0-9]+";

TEST(ComputeLibraries, HaveCudnnWhereItIsUsed) {
  ENTRAIN_REQUIRE_GPU();
  FakeCudnn::Asked asked;
  const auto context = FakeCudnn::ContextWith(asked);
  EXPECT_THAT(ComputeLibraries(*context), MatchesRegex(kWithoutCudnn));
  const AttentionWork work{
      .batch = 1, .positions = 8, .heads = 1, .width = 64, .dtype = DType::kBf16};
  ASSERT_TRUE(UseCudnnBackward(*context, work).ok());
  EXPECT_THAT(ComputeLibraries(*context), EndsWith(", cuDNN 9.99.0"));
  UseOwnBackward(*context);
  EXPECT_THAT(ComputeLibraries(*context), MatchesRegex(kWithoutCudnn));
}

}  // namespace
}  // namespace entrain
