#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/io/file_system.h"

namespace entrain {
namespace {

absl::StatusCode CodeOfErrno(int error) {
  switch (error) {
    case ENOENT:
      return absl::StatusCode::kNotFound;
    case ENAMETOOLONG:
    case ELOOP:
      return absl::StatusCode::kInvalidArgument;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case EEXIST:
    case ENOTEMPTY:
      return absl::StatusCode::kAlreadyExists;
    case EISDIR:
    case ENOTDIR:
      return absl::StatusCode::kFailedPrecondition;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return absl::StatusCode::kResourceExhausted;
    default:
      return absl::StatusCode::kInternal;
  }
}

// "cannot <action> '<path>': <system's reason>"
absl::Status ErrnoStatus(int error, const std::string& action, const std::string& path) {
  return absl::Status(
      CodeOfErrno(error),
      absl::StrCat("cannot ", action, " '", path, "': ", std::generic_category().message(error)));
}

// Runs a system call again when a signal interrupted it; signals are how a run is told to save.
template <typename Call>
auto RetryInterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

Descriptor OpenDescriptor(const std::string& path, int flags) {
  constexpr mode_t kMode = 0666;  // less the user's umask
  return Descriptor(
      RetryInterrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC, kMode); }));
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(std::string path, Descriptor fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  absl::Status Append(const void* data, int64_t bytes) override {
    // The kernel takes at most 2 GiB - 4 KiB a call; smaller writes let write-back start early.
    constexpr int64_t kLargestWrite = int64_t{32} << 20;
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
      const auto chunk = static_cast<size_t>(std::min(bytes, kLargestWrite));
      const ssize_t written = RetryInterrupted([&] { return ::write(fd_.get(), next, chunk); });
      if (written < 0) return ErrnoStatus(errno, "write to", path_);
      next += written;
      bytes -= written;
      StartWriteBack(written);
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    // Never tried twice: after a failed fsync the kernel may have dropped the pages and would
    // report success.
    if (::fsync(fd_.get()) != 0) return ErrnoStatus(errno, "sync", path_);
    return absl::OkStatus();
  }

  absl::Status Close() override {
    const int fd = fd_.release();
    // Linux has closed the descriptor even when it reports an interruption.
    if (::close(fd) != 0 && errno != EINTR) return ErrnoStatus(errno, "close", path_);
    return absl::OkStatus();
  }

 private:
  // Has the kernel begin to write what is appended, so that the device works while the caller
  // hashes the next part and Sync has little left to wait for. Only a hint: errors show at Sync.
  void StartWriteBack(int64_t written) {
    constexpr int64_t kWriteBackEvery = int64_t{32} << 20;
    size_ += written;
    if (size_ - started_ < kWriteBackEvery) return;
    ::sync_file_range(fd_.get(), started_, size_ - started_, SYNC_FILE_RANGE_WRITE);
    started_ = size_;
  }

  std::string path_;
  Descriptor fd_;
  int64_t size_ = 0;
  int64_t started_ = 0;
};

class PosixMappedFile final : public MappedFile {
 public:
  PosixMappedFile(void* address, size_t bytes) : address_(address), bytes_(bytes) {}
  PosixMappedFile(const PosixMappedFile&) = delete;
  PosixMappedFile& operator=(const PosixMappedFile&) = delete;
  ~PosixMappedFile() override {
    if (address_ != nullptr) ::munmap(address_, bytes_);
  }
  std::span<const std::byte> bytes() const override {
    return {static_cast<const std::byte*>(address_), bytes_};
  }

 private:
  void* address_;
  size_t bytes_;
};

class PosixFileSystem final : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    Descriptor fd = OpenDescriptor(path, O_WRONLY | O_CREAT | O_TRUNC);
    if (!fd.valid()) return ErrnoStatus(errno, "create", path);
    return std::make_unique<PosixWritableFile>(path, std::move(fd));
  }

  absl::StatusOr<std::unique_ptr<MappedFile>> Map(const std::string& path) override {
    // Or else a pipe would wait for its writer before it is refused.
    const Descriptor fd = OpenDescriptor(path, O_RDONLY | O_NONBLOCK);
    if (!fd.valid()) return ErrnoStatus(errno, "open", path);
    struct stat info = {};
    if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, "read the size of", path);
    if (S_ISDIR(info.st_mode)) return ErrnoStatus(EISDIR, "open", path);
    if (!S_ISREG(info.st_mode)) {
      return absl::InternalError(absl::StrCat("cannot map '", path, "': not a regular file"));
    }
    const auto bytes = static_cast<size_t>(info.st_size);
    if (bytes == 0) return std::make_unique<PosixMappedFile>(nullptr, 0);  // mmap refuses length 0
    void* address = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (address == MAP_FAILED) return ErrnoStatus(errno, "map", path);
    return std::make_unique<PosixMappedFile>(address, bytes);
  }

  absl::StatusOr<std::string> ReadText(const std::string& path) override {
    const Descriptor fd = OpenDescriptor(path, O_RDONLY);
    if (!fd.valid()) return ErrnoStatus(errno, "open", path);
    constexpr size_t kChunk = size_t{64} << 10;
    std::string text;
    for (;;) {  // not by the file's size: pipes and /proc tell none
      const size_t size = text.size();
      text.resize(size + kChunk);
      const ssize_t got =
          RetryInterrupted([&] { return ::read(fd.get(), text.data() + size, kChunk); });
      if (got < 0) return ErrnoStatus(errno, "read", path);
      text.resize(size + static_cast<size_t>(got));
      if (got == 0) return text;
    }
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, absl::StrCat("rename '", from, "' to"), to);
  }

  absl::Status SyncDirectory(const std::string& path) override {
    const Descriptor fd = OpenDescriptor(path, O_RDONLY | O_DIRECTORY);
    if (!fd.valid()) return ErrnoStatus(errno, "open folder", path);
    // EINVAL: a file system that has no such operation (some network ones); there is nothing to
    // wait for.
    if (::fsync(fd.get()) != 0 && errno != EINVAL) return ErrnoStatus(errno, "sync folder", path);
    return absl::OkStatus();
  }

  absl::Status MakeDirectories(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return ErrnoStatus(error.value(), "create folder", path);
    return absl::OkStatus();
  }

  absl::Status RemoveFile(const std::string& path) override {
    if (::unlink(path.c_str()) != 0) return ErrnoStatus(errno, "remove", path);
    return absl::OkStatus();
  }

  absl::Status RemoveTree(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error) return ErrnoStatus(error.value(), "remove folder", path);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<DirEntry>> List(const std::string& path) override {
    std::error_code error;
    std::vector<DirEntry> entries;
    std::filesystem::directory_iterator entry(path, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
      std::error_code
          type_error;  // a link that leads nowhere, or a file removed meanwhile: not a folder
      entries.push_back({entry->path().filename().string(), entry->is_directory(type_error)});
    }
    if (error) return ErrnoStatus(error.value(), "list folder", path);
    std::sort(entries.begin(), entries.end(),
              [](const DirEntry& a, const DirEntry& b) { return a.name < b.name; });
    return entries;
  }

  absl::StatusOr<bool> Exists(const std::string& path) override {
    return LookUp(path, [](const struct stat&) { return true; });
  }

  absl::StatusOr<bool> IsDirectory(const std::string& path) override {
    return LookUp(path, [](const struct stat& info) { return S_ISDIR(info.st_mode); });
  }

  absl::StatusOr<int64_t> FileSize(const std::string& path) override {
    struct stat info = {};
    if (::stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, "read the size of", path);
    if (S_ISDIR(info.st_mode)) return ErrnoStatus(EISDIR, "read the size of", path);
    return static_cast<int64_t>(info.st_size);
  }

  absl::StatusOr<int64_t> FreeSpace(const std::string& path) override {
    struct statvfs info = {};
    if (RetryInterrupted([&] { return ::statvfs(path.c_str(), &info); }) != 0) {
      return ErrnoStatus(errno, "read the free space at", path);
    }
    return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
  }

 private:
  // Whether `path` is there and `property` holds of it.
  template <typename Property>
  static absl::StatusOr<bool> LookUp(const std::string& path, Property property) {
    struct stat info = {};
    if (::stat(path.c_str(), &info) == 0) return property(info);
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return ErrnoStatus(errno, "look up", path);
  }
};

}  // namespace

FileSystem& FileSystem::Posix() {
  static PosixFileSystem file_system;
  return file_system;
}

}  // namespace entrain
