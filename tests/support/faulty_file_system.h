// FaultyFileSystem: a file system that fails or "loses power" at a chosen call.
//
// Calls are counted from 1, those of its open files too. Up to the fault everything goes to the file system below, except
// that syncing is only noted. After a crash every call fails; LosePower then makes of the folder what a machine could find
// after its restart: contents that were not synced are there, cut or gone; names (created, renamed, removed) that no
// SyncDirectory followed are as they are now or as they were before.
//
// Ranks that are threads may share one: calls happen one after the other, in whatever order they come.
#ifndef ENTRAIN_TESTS_SUPPORT_FAULTY_FILE_SYSTEM_H_
#define ENTRAIN_TESTS_SUPPORT_FAULTY_FILE_SYSTEM_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/io/file_system.h"

namespace entrain {

// Contents that were not synced when the power went.
enum class UnsyncedContents { kKept, kHalf, kLost };
// Names (created, renamed, removed) that were not synced when the power went.
enum class UnsyncedNames { kKept, kLost };

class FaultyFileSystem final : public FileSystem {
 public:
  // `scratch`: a folder outside what is tested, on the same file system, that holds what is removed until it is forgotten.
  FaultyFileSystem(FileSystem& base, std::string scratch)
      : base_(base), scratch_(std::move(scratch)) {
    CHECK(base_.MakeDirectories(scratch_).ok());
  }

  // Call `call` fails with `error`, all others work.
  void FailAt(int64_t call, absl::Status error) {
    fail_at_ = call;
    error_ = std::move(error);
  }
  // Of the calls for files whose path contains `part`, call `call` fails with `error`.
  void FailAtFile(std::string part, int64_t call, absl::Status error) {
    fail_part_ = std::move(part);
    fail_at_ = call;
    error_ = std::move(error);
  }
  // Call `call` and all after it fail; a write gets half way, the removal of a tree some of the way.
  void CrashAt(int64_t call) { crash_at_ = call; }
  // Called before every call with its number.
  void OnCall(std::function<void(int64_t)> observer) { observer_ = std::move(observer); }
  // What FreeSpace says; −1: the truth.
  void PretendFreeSpace(int64_t bytes) { free_space_ = bytes; }

  int64_t calls() const {
    const Lock lock(mutex_);
    return calls_;
  }
  // For files whose path contains the `part` of FailAtFile.
  int64_t calls_of_part() const {
    const Lock lock(mutex_);
    return calls_of_part_;
  }

  void LosePower(UnsyncedContents contents, UnsyncedNames names) {
    if (contents != UnsyncedContents::kKept) {
      for (const auto& [path, file] : files_) Truncate(path, file, contents);
    }
    if (names == UnsyncedNames::kKept) return;
    for (auto operation = unsynced_.rbegin(); operation != unsynced_.rend(); ++operation)
      Undo(*operation);
  }

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    ASSIGN_OR_RETURN(const bool existed, base_.Exists(path));
    if (existed) RETURN_IF_ERROR(MoveToScratch(path));
    ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, base_.Create(path));
    Note({Operation::kCreate, path, ""});
    files_[path] = {};
    return std::make_unique<File>(*this, path, std::move(file));
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(from));
    ASSIGN_OR_RETURN(const bool replaces, base_.Exists(to));
    ASSIGN_OR_RETURN(const bool folder, base_.IsDirectory(to));
    if (replaces && !folder) RETURN_IF_ERROR(MoveToScratch(to));
    RETURN_IF_ERROR(base_.Rename(from, to));
    Note({Operation::kMove, from, to});
    MoveFiles(from, to);
    return absl::OkStatus();
  }

  absl::Status SyncDirectory(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    RETURN_IF_ERROR(base_.IsDirectory(path).status());
    std::vector<Operation> kept;
    for (size_t i = 0; i < unsynced_.size(); ++i) {
      if (ParentPath(unsynced_[i].path) != path) {
        kept.push_back(unsynced_[i]);
      } else if (unsynced_[i].kind == Operation::kMove) {
        // From here on the move is never undone: what was done inside is undone under the new name.
        for (Operation& earlier : kept) {
          earlier.path = Moved(earlier.path, unsynced_[i].path, unsynced_[i].to);
          earlier.to = Moved(earlier.to, unsynced_[i].path, unsynced_[i].to);
        }
      }
    }
    unsynced_ = std::move(kept);
    return absl::OkStatus();
  }

  absl::Status MakeDirectories(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    std::vector<std::string> made;
    for (std::string folder = path; !base_.IsDirectory(folder).value_or(true);
         folder = ParentPath(folder)) {
      made.push_back(folder);
    }
    RETURN_IF_ERROR(base_.MakeDirectories(path));
    for (auto folder = made.rbegin(); folder != made.rend(); ++folder)
      Note({Operation::kCreate, *folder, ""});
    return absl::OkStatus();
  }

  absl::Status RemoveFile(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    RETURN_IF_ERROR(base_.FileSize(path).status());
    return MoveToScratch(path);
  }

  absl::Status RemoveTree(const std::string& path) override {
    const Lock lock(mutex_);
    const bool crashed_before = HasCrashed();
    const absl::Status entered = Enter(path);
    if (!entered.ok()) {
      if (HasCrashed() && !crashed_before) RemoveSome(path);
      return entered;
    }
    ASSIGN_OR_RETURN(const bool exists, base_.Exists(path));
    return exists ? MoveToScratch(path) : absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    return base_.Map(path);
  }
  absl::StatusOr<std::string> ReadText(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    return base_.ReadText(path);
  }
  absl::StatusOr<std::vector<DirEntry>> List(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    return base_.List(path);
  }
  absl::StatusOr<bool> Exists(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    return base_.Exists(path);
  }
  absl::StatusOr<bool> IsDirectory(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    return base_.IsDirectory(path);
  }
  absl::StatusOr<int64_t> FileSize(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    return base_.FileSize(path);
  }
  absl::StatusOr<int64_t> FreeSpace(const std::string& path) override {
    const Lock lock(mutex_);
    RETURN_IF_ERROR(Enter(path));
    if (free_space_ >= 0) return free_space_;
    return base_.FreeSpace(path);
  }

 private:
  using Lock = std::lock_guard<std::mutex>;

  // A change of names that no SyncDirectory has followed yet.
  struct Operation {
    enum Kind { kCreate, kMove } kind;
    std::string path;  // created, or moved from here
    std::string to;    // moved to here; what is removed is moved to the scratch folder
  };

  struct FileState {
    int64_t size = 0;
    int64_t synced = 0;
  };

  class File final : public WritableFile {
   public:
    File(FaultyFileSystem& fs, std::string path, std::unique_ptr<WritableFile> base)
        : fs_(fs), path_(std::move(path)), base_(std::move(base)) {}

    absl::Status Append(const void* data, int64_t bytes) override {
      const Lock lock(fs_.mutex_);
      const bool crashed_before = fs_.HasCrashed();
      const absl::Status entered = fs_.Enter(path_);
      if (!entered.ok() && crashed_before) return entered;
      const int64_t written = entered.ok() ? bytes : bytes / 2;
      RETURN_IF_ERROR(base_->Append(data, written));
      fs_.files_[path_].size += written;
      return entered;
    }
    absl::Status Sync() override {
      const Lock lock(fs_.mutex_);
      RETURN_IF_ERROR(fs_.Enter(path_));
      fs_.files_[path_].synced = fs_.files_[path_].size;
      return absl::OkStatus();
    }
    absl::Status Close() override {
      const Lock lock(fs_.mutex_);
      RETURN_IF_ERROR(fs_.Enter(path_));
      return base_->Close();
    }

   private:
    FaultyFileSystem& fs_;
    std::string path_;
    std::unique_ptr<WritableFile> base_;
  };

  bool HasCrashed() const { return crash_at_ > 0 && calls_ >= crash_at_; }

  absl::Status Enter(const std::string& path) {
    if (HasCrashed()) return absl::InternalError("the machine has crashed");
    ++calls_;
    if (observer_) observer_(calls_);
    if (HasCrashed()) return absl::InternalError("the machine crashes now");
    if (path.find(fail_part_) == std::string::npos) return absl::OkStatus();
    return ++calls_of_part_ == fail_at_ ? error_ : absl::OkStatus();
  }

  void Note(Operation operation) { unsynced_.push_back(std::move(operation)); }

  absl::Status MoveToScratch(const std::string& path) {
    const std::string grave = JoinPath(scratch_, absl::StrCat("removed_", removed_++));
    RETURN_IF_ERROR(base_.Rename(path, grave));
    Note({Operation::kMove, path, grave});
    MoveFiles(path, grave);
    return absl::OkStatus();
  }

  // Of a folder the first half of its entries.
  void RemoveSome(const std::string& path) {
    if (!base_.IsDirectory(path).value_or(false)) return;
    const std::vector<DirEntry> entries = *base_.List(path);
    for (size_t i = 0; i < (entries.size() + 1) / 2; ++i) {
      CHECK(MoveToScratch(JoinPath(path, entries[i].name)).ok());
    }
  }

  // `path` when it is not `from` or in it, else where it is after `from` was moved to `to`.
  static std::string Moved(const std::string& path, const std::string& from,
                           const std::string& to) {
    if (path == from) return to;
    if (path.rfind(from + "/", 0) == 0) return to + path.substr(from.size());
    return path;
  }

  void MoveFiles(const std::string& from, const std::string& to) {
    std::map<std::string, FileState> moved;
    for (const auto& [path, file] : files_) moved[Moved(path, from, to)] = file;
    files_ = std::move(moved);
  }

  void Truncate(const std::string& path, const FileState& file, UnsyncedContents contents) {
    if (file.size == file.synced || !base_.Exists(path).value_or(false)) return;
    const int64_t lost = file.size - file.synced;
    const int64_t kept = file.synced + (contents == UnsyncedContents::kHalf ? lost / 2 : 0);
    const std::string text = base_.ReadText(path).value().substr(0, static_cast<size_t>(kept));
    auto rewritten = base_.Create(path);
    CHECK(rewritten.ok() && (*rewritten)->Append(text.data(), kept).ok() &&
          (*rewritten)->Close().ok());
  }

  void Undo(const Operation& operation) {
    if (operation.kind == Operation::kCreate) {
      CHECK(base_.RemoveTree(operation.path).ok());
    } else {
      const absl::Status undone = base_.Rename(operation.to, operation.path);
      CHECK(undone.ok()) << undone;
    }
  }

  FileSystem& base_;
  std::string scratch_;
  mutable std::mutex mutex_;
  int64_t calls_ = 0;
  std::string fail_part_;  // "": of every path
  int64_t calls_of_part_ = 0;
  int64_t fail_at_ = 0;
  int64_t crash_at_ = 0;
  int64_t removed_ = 0;
  int64_t free_space_ = -1;
  absl::Status error_;
  std::function<void(int64_t)> observer_;
  std::vector<Operation> unsynced_;  // oldest first
  std::map<std::string, FileState> files_;
};

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_FAULTY_FILE_SYSTEM_H_
