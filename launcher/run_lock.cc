#include "launcher/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "launcher/host_name.h"

namespace entrain {
namespace {

// What the holder wrote; it may be about to write it.
std::string HolderOf(int descriptor) {
  std::array<char, 256> text{};
  const ssize_t size = pread(descriptor, text.data(), text.size() - 1, 0);
  const std::string holder(text.data(), static_cast<size_t>(size > 0 ? size : 0));
  return holder.empty() ? "another process" : holder.substr(0, holder.find('\n'));
}

absl::Status InUse(const std::string& run_dir, int descriptor) {
  return absl::FailedPreconditionError(
      run_dir + ": this run folder is in use by " + HolderOf(descriptor) +
      "; wait until it ends, stop it, or choose another folder with [run] dir");
}

// Only a message: a lock whose file could not be written still holds.
void NameHolder(int descriptor) {
  const std::string holder = "pid " + std::to_string(getpid()) + " on " + HostName() + "\n";
  if (ftruncate(descriptor, 0) != 0) return;
  [[maybe_unused]] const ssize_t written = pwrite(descriptor, holder.data(), holder.size(), 0);
}

}  // namespace

absl::StatusOr<RunLock> RunLock::Acquire(FileSystem& fs, const std::string& run_dir) {
  RETURN_IF_ERROR(fs.MakeDirectories(run_dir));
  const std::string path = JoinPath(run_dir, "lock");
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, path + ": cannot open the run's lock");
  RunLock lock(descriptor);
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    if (error == EWOULDBLOCK) return InUse(run_dir, descriptor);
    return absl::ErrnoToStatus(error, path + ": cannot lock the run folder");
  }
  NameHolder(descriptor);
  return lock;
}

RunLock::RunLock(RunLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

RunLock::~RunLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

}  // namespace entrain
