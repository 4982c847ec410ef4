// Processes that save are really killed, and disks are really full.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <utility>

#include "parallel/checkpoint.h"
#include "parallel/comm/communicator_host.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/sample_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace entrain {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr RetentionPolicy kKeepTwo = {2, 0};

absl::Status SaveStep(FileSystem& fs, const std::string& folder, int64_t step, int64_t width) {
  SampleCheckpoint sample(step, width);
  return CheckpointStore(fs, folder).Save(*MakeWorldOfOne(), sample.Contents(), kKeepTwo).status();
}

// Runs `work` in a process of its own; its exit status is what `work` returns.
pid_t Fork(const std::function<int()>& work) {
  const pid_t child = ::fork();
  CHECK(child >= 0) << std::strerror(errno);
  if (child == 0) ::_exit(work());
  return child;
}

int WaitFor(pid_t child) {
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child) << std::strerror(errno);
  return status;
}

bool WasKilled(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL; }

// The highest step that is found must be at least `acknowledged` and hold exactly that step's bits.
int64_t ExpectSound(const std::string& folder, int64_t acknowledged, int64_t width) {
  FileSystem& fs = FileSystem::Posix();
  const auto latest = CheckpointStore(fs, folder).FindLatest(nullptr);
  if (!latest.ok()) {
    EXPECT_EQ(acknowledged, 0) << latest.status();
    return 0;
  }
  EXPECT_GE(latest->step, acknowledged) << "a save that had returned is lost";
  EXPECT_EQ(SampleCheckpoint::Difference(fs, latest->path, latest->step, width), "");
  return latest->step;
}

// Saves step after step from `first` on and tells each that is saved, until it is killed.
int SaveUntilKilled(const std::string& folder, int64_t first, int64_t width, int tell) {
  for (int64_t step = first;; ++step) {
    if (!SaveStep(FileSystem::Posix(), folder, step, width).ok()) return 1;
    if (::write(tell, &step, sizeof(step)) != sizeof(step)) return 2;
  }
}

TEST(CheckpointKillTest, At50RandomMoments) {
  constexpr int64_t kWidth = 300;  // 720 kB a checkpoint
  const TemporaryFolder root;
  const std::string folder = JoinPath(root.path(), "checkpoints");
  std::mt19937 random(20240);
  int64_t step = 0;
  for (int kill = 0; kill < 50; ++kill) {
    SCOPED_TRACE(kill);
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = Fork([&] { return SaveUntilKilled(folder, step + 1, kWidth, ends[1]); });
    ::close(ends[1]);
    ::usleep(1000 + random() % 120'000);
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ASSERT_TRUE(WasKilled(WaitFor(child)));
    int64_t acknowledged = step;
    while (::read(ends[0], &acknowledged, sizeof(acknowledged)) == sizeof(acknowledged)) {
    }
    ::close(ends[0]);
    step = ExpectSound(folder, acknowledged, kWidth);
    if (HasFailure()) return;
  }
  EXPECT_GT(step, 10) << "saves succeed between the kills";
}

TEST(CheckpointKillTest, AtEveryFileSystemCall) {
  constexpr int64_t kWidth = 16;
  for (int64_t call = 1;; ++call) {
    SCOPED_TRACE(call);
    const TemporaryFolder root;
    const std::string folder = JoinPath(root.path(), "checkpoints");
    for (const int64_t step : {10, 20})
      ASSERT_TRUE(SaveStep(FileSystem::Posix(), folder, step, kWidth).ok());
    const int status = WaitFor(Fork([&] {
      FaultyFileSystem fs(FileSystem::Posix(), JoinPath(root.path(), "scratch"));
      fs.OnCall([&](int64_t number) {
        if (number == call) ::raise(SIGKILL);
      });
      return SaveStep(fs, folder, 30, kWidth).ok() ? 0 : 1;
    }));
    const int64_t latest = ExpectSound(folder, 20, kWidth);
    if (!WasKilled(status)) {
      EXPECT_EQ(status, 0);
      EXPECT_EQ(latest, 30);
      EXPECT_GT(call, 40) << "calls of a save";
      return;
    }
    ASSERT_TRUE(SaveStep(FileSystem::Posix(), folder, 40, kWidth).ok());
    EXPECT_EQ(ExpectSound(folder, 40, kWidth), 40);
    if (HasFailure()) return;
  }
}

// What a save of step 30 says in a process that has called `limit`; it comes by a pipe, which no limit stops.
std::string SaveUnder(const std::string& folder, int64_t width,
                      const std::function<void()>& limit) {
  int ends[2];
  CHECK(::pipe(ends) == 0) << std::strerror(errno);
  const pid_t child = Fork([&] {
    limit();
    const std::string text = SaveStep(FileSystem::Posix(), folder, 30, width).ToString();
    return ::write(ends[1], text.data(), text.size()) > 0 ? 0 : 1;
  });
  ::close(ends[1]);
  EXPECT_EQ(WaitFor(child), 0);
  std::string said(4096, '\0');  // less than a pipe holds
  said.resize(static_cast<size_t>(::read(ends[0], said.data(), said.size())));
  ::close(ends[0]);
  return said;
}

TEST(CheckpointNoSpaceTest, AFileSizeLimit) {
  constexpr int64_t kWidth = 300;
  const TemporaryFolder root;
  const std::string folder = JoinPath(root.path(), "checkpoints");
  ASSERT_TRUE(SaveStep(FileSystem::Posix(), folder, 20, kWidth).ok());
  for (const rlim_t bytes : {rlim_t{0}, rlim_t{100}, rlim_t{5000}, rlim_t{700'000}}) {
    const std::string said = SaveUnder(folder, kWidth, [bytes] {
      std::signal(SIGXFSZ, SIG_IGN);
      const rlimit limit = {bytes, RLIM_INFINITY};
      CHECK(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
    });
    EXPECT_THAT(said, AllOf(HasSubstr("RESOURCE_EXHAUSTED: cannot write to '" + folder +
                                      "/tmp_step_00000030/"),
                            HasSubstr("File too large")));
    EXPECT_EQ(ExpectSound(folder, 20, kWidth), 20);
    EXPECT_EQ(FileSystem::Posix().List(folder)->size(), 1U) << "what was written is removed";
  }
  ASSERT_TRUE(SaveStep(FileSystem::Posix(), folder, 30, kWidth).ok());
}

// A small file system in memory, taken away again with the object.
class SmallDisk {
 public:
  SmallDisk(std::string path, const char* size) : path_(std::move(path)) {
    CHECK(FileSystem::Posix().MakeDirectories(path_).ok());
    mounted_ = ::mount("tmpfs", path_.c_str(), "tmpfs", 0, size) == 0;
    if (!mounted_) reason_ = std::strerror(errno);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::string& reason() const { return reason_; }

 private:
  std::string path_;
  std::string reason_;
  bool mounted_ = false;
};

TEST(CheckpointNoSpaceTest, AFullDisk) {
  constexpr int64_t kWidth = 300;
  const TemporaryFolder root;
  const std::string disk_path = JoinPath(root.path(), "disk");
  const SmallDisk disk(disk_path, "size=1200k");
  if (!disk.mounted()) GTEST_SKIP() << "a small disk cannot be mounted here: " << disk.reason();
  const std::string folder = JoinPath(disk_path, "checkpoints");
  FileSystem& fs = FileSystem::Posix();
  ASSERT_TRUE(SaveStep(fs, folder, 20, kWidth).ok());

  const absl::Status refused = SaveStep(fs, folder, 30, kWidth);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("no space for step_00000030 in '" + folder + "': it needs "),
                    HasSubstr(" are free: ")));
  EXPECT_EQ(ExpectSound(folder, 20, kWidth), 20);

  // Another process takes the space that was free when it was checked.
  FaultyFileSystem optimist(fs, JoinPath(disk_path, "scratch"));
  optimist.PretendFreeSpace(int64_t{1} << 40);
  const absl::Status full = SaveStep(optimist, folder, 30, kWidth);
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()),
              AllOf(HasSubstr("cannot write to '" + folder + "/tmp_step_00000030/shard_"),
                    HasSubstr("No space left on device")));
  EXPECT_EQ(ExpectSound(folder, 20, kWidth), 20);
  EXPECT_EQ(fs.List(folder)->size(), 1U) << "what was written is removed";
}

}  // namespace
}  // namespace entrain
