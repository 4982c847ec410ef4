// That NCCL is found where it is installed, and missed politely where not: neither takes a GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "parallel/comm/communicator_nccl.h"
#include "runtime/base/status.h"

namespace entrain {
namespace {

TEST(NcclLibraryTest, IsFoundOrSaysWhatIsWanted) {
  const absl::StatusOr<std::string> version = NcclVersion();
  if (version.ok()) {
    EXPECT_THAT(*version, ::testing::MatchesRegex("2\\.[0-9]+\\.[0-9]+"));
  } else {
    EXPECT_THAT(std::string(version.status().message()), ::testing::HasSubstr("NCCL 2.26"));
  }
}

// In a process of its own: the library is looked for once.
TEST(NcclLibraryDeathTest, AFileThatIsNoneIsAnError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto look = [](const char* file) {
    setenv("ENTRAIN_NCCL_LIBRARY", file, 1);
    std::fprintf(stderr, "%s\n", std::string(NcclVersion().status().message()).c_str());
    std::exit(NcclVersion().ok() ? 0 : 3);
  };
  EXPECT_EXIT(look("/nowhere/libnccl.so.2"), ::testing::ExitedWithCode(3),
              "NCCL 2.26 or newer .*ENTRAIN_NCCL_LIBRARY = /nowhere/libnccl.so.2");
  EXPECT_EXIT(look("libm.so.6"), ::testing::ExitedWithCode(3),
              "libm.so.6 is not NCCL 2.26 or newer: it has no ncclGetVersion");
}

}  // namespace
}  // namespace entrain
