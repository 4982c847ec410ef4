#include "launcher/run_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher/host_name.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::HasSubstr;

class RunLockTest : public ::testing::Test {
 protected:
  FileSystem& fs_ = FileSystem::Posix();
  TemporaryFolder folder_;
  std::string run_ = folder_.path() + "/runs/a";
};

TEST_F(RunLockTest, MakesTheFolderAndNamesItsHolder) {
  const absl::StatusOr<RunLock> lock = RunLock::Acquire(fs_, run_);
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_EQ(*fs_.ReadText(run_ + "/lock"),
            "pid " + std::to_string(getpid()) + " on " + HostName() + "\n");
}

TEST_F(RunLockTest, ASecondIsRefusedWithTheHoldersName) {
  const absl::StatusOr<RunLock> lock = RunLock::Acquire(fs_, run_);
  const absl::Status status = RunLock::Acquire(fs_, run_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::string(status.message()),
            run_ + ": this run folder is in use by pid " + std::to_string(getpid()) + " on " +
                HostName() +
                "; wait until it ends, stop it, or choose another folder with [run] dir");
}

TEST_F(RunLockTest, AnotherFolderIsFree) {
  const absl::StatusOr<RunLock> lock = RunLock::Acquire(fs_, run_);
  EXPECT_TRUE(RunLock::Acquire(fs_, folder_.path() + "/runs/b").ok());
}

TEST_F(RunLockTest, EndsWithItsHolder) {
  { const absl::StatusOr<RunLock> lock = RunLock::Acquire(fs_, run_); }
  absl::StatusOr<RunLock> lock = RunLock::Acquire(fs_, run_);
  ASSERT_TRUE(lock.ok());
  {
    const RunLock moved = *std::move(lock);
    EXPECT_FALSE(RunLock::Acquire(fs_, run_).ok());
  }
  EXPECT_TRUE(RunLock::Acquire(fs_, run_).ok());
}

TEST_F(RunLockTest, AKilledProcessLeavesNoLock) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const absl::StatusOr<RunLock> lock = RunLock::Acquire(fs_, run_);
    const char byte = lock.ok() ? 'y' : 'n';
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'y');
  const absl::Status held = RunLock::Acquire(fs_, run_).status();
  EXPECT_THAT(std::string(held.message()), HasSubstr("pid " + std::to_string(child) + " on "));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(RunLock::Acquire(fs_, run_).ok());
  close(ready[0]);
  close(ready[1]);
}

TEST_F(RunLockTest, AFolderThatCannotBeMadeIsNamed) {
  ASSERT_TRUE(WriteTextAtomically(fs_, folder_.path() + "/file", "x").ok());
  const absl::Status status = RunLock::Acquire(fs_, folder_.path() + "/file/run").status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("/file"));
}

TEST_F(RunLockTest, ALockThatCannotBeOpenedIsNamed) {
  ASSERT_TRUE(fs_.MakeDirectories(run_ + "/lock").ok());
  const absl::Status status = RunLock::Acquire(fs_, run_).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("/lock: cannot open the run's lock"));
}

}  // namespace
}  // namespace entrain
