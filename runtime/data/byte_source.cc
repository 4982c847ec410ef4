#include "runtime/data/byte_source.h"

#include <sys/stat.h>
#include <zstd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FileHandle = std::unique_ptr<std::FILE, FileCloser>;

absl::Status SystemError(std::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", std::string(what), " '", path, "'"));
}

class PlainSource : public ByteSource {
 public:
  PlainSource(FileHandle file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}

  absl::StatusOr<int64_t> Read(char* out, int64_t capacity) override {
    const size_t count = std::fread(out, 1, static_cast<size_t>(capacity), file_.get());
    if (count == 0 && std::ferror(file_.get()) != 0) return SystemError("read", path_);
    consumed_ += static_cast<int64_t>(count);
    return static_cast<int64_t>(count);
  }

  int64_t bytes_consumed() const override { return consumed_; }

 private:
  FileHandle file_;
  std::string path_;
  int64_t consumed_ = 0;
};

class ZstdSource : public ByteSource {
 public:
  ZstdSource(std::unique_ptr<ByteSource> compressed, std::string path)
      : compressed_(std::move(compressed)),
        path_(std::move(path)),
        stream_(ZSTD_createDStream()),
        buffer_(ZSTD_DStreamInSize()) {
    CHECK(stream_ != nullptr) << "out of memory";
    // What `zstd --long=31` made is taken too; such a file itself asks for the memory.
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax,
                           ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound);
  }

  absl::StatusOr<int64_t> Read(char* out, int64_t capacity) override;
  int64_t bytes_consumed() const override { return compressed_->bytes_consumed(); }

 private:
  struct StreamFree {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };

  std::unique_ptr<ByteSource> compressed_;
  std::string path_;
  std::unique_ptr<ZSTD_DStream, StreamFree> stream_;
  std::vector<char> buffer_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool inside_frame_ = false;
};

absl::StatusOr<int64_t> ZstdSource::Read(char* out, int64_t capacity) {
  ZSTD_outBuffer output{out, static_cast<size_t>(capacity), 0};
  while (output.pos == 0) {
    if (input_.pos == input_.size) {
      ASSIGN_OR_RETURN(const int64_t count,
                       compressed_->Read(buffer_.data(), static_cast<int64_t>(buffer_.size())));
      input_ = {buffer_.data(), static_cast<size_t>(count), 0};
      if (count == 0 && inside_frame_) {
        return absl::InvalidArgumentError(
            absl::StrCat(path_, ": the zstd stream ends in the middle: the file was cut after ",
                         bytes_consumed(), " bytes"));
      }
      if (count == 0) return 0;
    }
    const size_t result = ZSTD_decompressStream(stream_.get(), &output, &input_);
    if (ZSTD_isError(result) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(path_, ": not a sound zstd stream near byte ",
                                                     bytes_consumed(), ": ",
                                                     ZSTD_getErrorName(result)));
    }
    inside_frame_ = result != 0;
  }
  return static_cast<int64_t>(output.pos);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ByteSource>> OpenByteSource(const std::string& path) {
  FileHandle file(std::fopen(path.c_str(), "rb"));
  if (!file) return SystemError("open", path);
  struct stat info = {};
  if (fstat(fileno(file.get()), &info) == 0 && S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("cannot read '", path, "': it is a folder"));
  }
  auto plain = std::make_unique<PlainSource>(std::move(file), path);
  if (!path.ends_with(".zst")) return plain;
  return std::make_unique<ZstdSource>(std::move(plain), path);
}

}  // namespace entrain
