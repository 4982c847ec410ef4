// RunLock: one process a run folder.
#ifndef ENTRAIN_LAUNCHER_RUN_LOCK_H_
#define ENTRAIN_LAUNCHER_RUN_LOCK_H_

#include <string>

#include "runtime/base/status.h"
#include "runtime/io/file_system.h"

namespace entrain {

// An flock(2) on <run_dir>/lock. The system releases it when the process ends, however it ends, so
// there is no stale lock to remove; the file itself stays. It names its holder: "pid 123 on host".
class RunLock {
 public:
  // Makes the folder when needed. FailedPrecondition names the folder and the process that has it.
  static absl::StatusOr<RunLock> Acquire(FileSystem& fs, const std::string& run_dir);

  RunLock(RunLock&& other) noexcept;
  RunLock& operator=(RunLock&&) = delete;
  ~RunLock();

 private:
  explicit RunLock(int descriptor) : descriptor_(descriptor) {}

  int descriptor_;
};

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_RUN_LOCK_H_
