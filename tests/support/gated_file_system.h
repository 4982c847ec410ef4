// GatedFileSystem: a file system where the making of some files waits, as on a disk that hangs, until a test lets it go on.
#ifndef ENTRAIN_TESTS_SUPPORT_GATED_FILE_SYSTEM_H_
#define ENTRAIN_TESTS_SUPPORT_GATED_FILE_SYSTEM_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "runtime/io/file_system.h"

namespace entrain {

class GatedFileSystem final : public FileSystem {
 public:
  // Files whose path contains `part` wait at the gate, which is closed.
  GatedFileSystem(FileSystem& base, std::string part) : base_(base), part_(std::move(part)) {}

  void Open() { Set(true); }
  void Close() { Set(false); }
  // Returns when somebody stands at the closed gate.
  void WaitForArrival() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return waiting_ > 0; });
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    if (path.find(part_) != std::string::npos) Pass();
    return base_.Create(path);
  }
  absl::StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) override {
    return base_.Map(path);
  }
  absl::StatusOr<std::string> ReadText(const std::string& path) override {
    return base_.ReadText(path);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return base_.Rename(from, to);
  }
  absl::Status SyncDirectory(const std::string& path) override { return base_.SyncDirectory(path); }
  absl::Status MakeDirectories(const std::string& path) override {
    return base_.MakeDirectories(path);
  }
  absl::Status RemoveFile(const std::string& path) override { return base_.RemoveFile(path); }
  absl::Status RemoveTree(const std::string& path) override { return base_.RemoveTree(path); }
  absl::StatusOr<std::vector<DirEntry>> List(const std::string& path) override {
    return base_.List(path);
  }
  absl::StatusOr<bool> Exists(const std::string& path) override { return base_.Exists(path); }
  absl::StatusOr<bool> IsDirectory(const std::string& path) override {
    return base_.IsDirectory(path);
  }
  absl::StatusOr<int64_t> FileSize(const std::string& path) override {
    return base_.FileSize(path);
  }
  absl::StatusOr<int64_t> FreeSpace(const std::string& path) override {
    return base_.FreeSpace(path);
  }

 private:
  void Set(bool open) {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --waiting_;
  }

  FileSystem& base_;
  std::string part_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_GATED_FILE_SYSTEM_H_
