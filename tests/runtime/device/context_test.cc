#include "runtime/device/context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <string>

namespace entrain {
namespace {

using ::testing::HasSubstr;

TEST(Context, TakesTheThreadsAskedFor) {
  EXPECT_EQ(Context::CreateCpu(1).value()->num_threads(), 1);
  EXPECT_EQ(Context::CreateCpu(3).value()->num_threads(), 3);
}

TEST(Context, ZeroThreadsMeansOneForEachAllowedCore) {
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  EXPECT_EQ(Context::CreateCpu(0).value()->num_threads(), CPU_COUNT(&set));
}

TEST(Context, RefusesImpossibleThreads) {
  EXPECT_EQ(Context::CreateCpu(-1).status(),
            absl::InvalidArgumentError("threads = -1 is not in 0 .. 1024"));
  EXPECT_EQ(Context::CreateCpu(1025).status(),
            absl::InvalidArgumentError("threads = 1025 is not in 0 .. 1024"));
}

TEST(Context, DescribesItself) {
  EXPECT_THAT(Context::CreateCpu(1).value()->Description(), HasSubstr(", 1 thread"));
  EXPECT_THAT(Context::CreateCpu(2).value()->Description(), HasSubstr(", 2 threads"));
}

struct Counter {
  int value = 0;
};
struct OtherCounter {
  int value = 0;
};

TEST(Context, KeepsOneCacheATypeForItsLife) {
  const auto context = Context::CreateCpu(1).value();
  context->Cache<Counter>().value = 5;
  EXPECT_EQ(context->Cache<Counter>().value, 5);
  EXPECT_EQ(context->Cache<OtherCounter>().value, 0);
  EXPECT_EQ(Context::CreateCpu(1).value()->Cache<Counter>().value, 0);
}

}  // namespace
}  // namespace entrain
