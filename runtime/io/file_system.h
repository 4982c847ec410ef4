// FileSystem: every file-system call that can lose a checkpoint, behind an interface that tests can
// break.
#ifndef ENTRAIN_RUNTIME_IO_FILE_SYSTEM_H_
#define ENTRAIN_RUNTIME_IO_FILE_SYSTEM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace entrain {

// A file being written, front to back. Every error names the path and the system's reason.
// Destroying an open file closes it and says nothing: what matters is that Close returned OK.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual absl::Status Append(const void* data, int64_t bytes) = 0;
  // The bytes are on the device when this returns OK (fsync).
  virtual absl::Status Sync() = 0;
  virtual absl::Status Close() = 0;
};

// A whole file, mapped read-only.
class MappedFile {
 public:
  virtual ~MappedFile() = default;
  virtual std::span<const std::byte> bytes() const = 0;
};

struct DirEntry {
  std::string name;
  bool is_directory;
};

// Several threads may use it at a time, each its own open files. Every error names the path and the
// system's reason.
// Codes: NotFound, PermissionDenied, AlreadyExists, FailedPrecondition (a folder where a file is
// needed, or the reverse), InvalidArgument (a name too long, links in a circle), ResourceExhausted
// (no space, quota, file-size limit), else Internal.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  virtual absl::StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) = 0;
  virtual absl::StatusOr<std::string> ReadText(const std::string& path) = 0;
  // Atomic within a file system; replaces a file, refuses a folder that is not empty.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  virtual absl::Status SyncDirectory(const std::string& path) = 0;
  virtual absl::Status MakeDirectories(const std::string& path) = 0;
  virtual absl::Status RemoveFile(const std::string& path) = 0;
  // With everything in it; a path that is not there is OK.
  virtual absl::Status RemoveTree(const std::string& path) = 0;
  // Sorted by name.
  virtual absl::StatusOr<std::vector<DirEntry>> List(const std::string& path) = 0;
  virtual absl::StatusOr<bool> Exists(const std::string& path) = 0;
  virtual absl::StatusOr<bool> IsDirectory(const std::string& path) = 0;
  virtual absl::StatusOr<int64_t> FileSize(const std::string& path) = 0;
  // Bytes an ordinary user may still write to the file system that holds `path`.
  virtual absl::StatusOr<int64_t> FreeSpace(const std::string& path) = 0;

  // The machine's own.
  static FileSystem& Posix();
};

// folder + "/" + name
std::string JoinPath(std::string_view folder, std::string_view name);

// The folder that holds `path`: "a/b" -> "a", "/a" -> "/", "a" -> ".".
std::string ParentPath(std::string_view path);

// Creates or overwrites `path` and syncs its contents, not its name. A failure may leave a part of
// the text behind.
absl::Status WriteTextSynced(FileSystem& fs, const std::string& path, std::string_view text);

// Writes to `path`.tmp, syncs, renames to `path`, syncs the folder: readers see the old text or the
// new one, never a part.
absl::Status WriteTextAtomically(FileSystem& fs, const std::string& path, std::string_view text);

// The same without a sync, for what is of no use after a crash of the machine.
absl::Status WriteTextUnsynced(FileSystem& fs, const std::string& path, std::string_view text);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_IO_FILE_SYSTEM_H_
