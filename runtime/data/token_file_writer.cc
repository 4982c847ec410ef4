// TokenFileWriter of token_file.h.
//
// llm.c's header, which tells the number of tokens, comes first and is known last, and a
// WritableFile is written from front to back. So the tokens go to one temporary file, and Finish
// copies them behind the header into another: a little disk traffic for memory that does not grow
// with the shard.
#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/data/byte_source.h"
#include "runtime/data/flat_token_file.h"
#include "runtime/data/token_file.h"

namespace entrain {
namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
constexpr int64_t kCopyBytes = int64_t{1} << 18;

class LlmcWriter : public TokenFileWriter {
 public:
  LlmcWriter(FileSystem& fs, std::string path, std::unique_ptr<WritableFile> body)
      : fs_(fs), path_(std::move(path)), body_(std::move(body)) {}

  // A shard that was not finished leaves nothing behind. What cannot be removed has a name that no
  // reader takes.
  ~LlmcWriter() override {
    body_.reset();
    if (!finished_) (void)RemoveTemporaries();
  }

  absl::Status Append(const int32_t* tokens, int64_t count) override;
  int64_t size() const override { return size_; }
  absl::Status Finish() override;

  static std::string BodyPath(const std::string& path) { return path + ".body.tmp"; }

 private:
  std::string TemporaryPath() const { return path_ + ".tmp"; }
  absl::Status RemoveTemporaries();
  absl::Status WriteWithHeader();

  FileSystem& fs_;
  std::string path_;
  std::unique_ptr<WritableFile> body_;
  int64_t size_ = 0;
  bool finished_ = false;
};

absl::Status LlmcWriter::Append(const int32_t* tokens, int64_t count) {
  CHECK(!finished_) << "Append after Finish of " << path_;
  if (count > kMaxTokens - size_) {
    return absl::OutOfRangeError(absl::StrCat(path_, ": a shard holds at most ", kMaxTokens,
                                              " tokens; make smaller shards"));
  }
  std::array<uint16_t, 4096> narrow;  // NOLINT(cppcoreguidelines-pro-type-member-init)
  for (int64_t begin = 0; begin < count; begin += static_cast<int64_t>(narrow.size())) {
    const int64_t part = std::min(count - begin, static_cast<int64_t>(narrow.size()));
    for (int64_t i = 0; i < part; ++i) {
      const int32_t token = tokens[begin + i];
      if (token < 0 || token > std::numeric_limits<uint16_t>::max()) {
        return absl::OutOfRangeError(
            absl::StrCat(path_, ": token ", token, " does not fit the shard's 16 bits"));
      }
      narrow[static_cast<size_t>(i)] = static_cast<uint16_t>(token);
    }
    RETURN_IF_ERROR(body_->Append(narrow.data(), part * 2));
    size_ += part;
  }
  return absl::OkStatus();
}

absl::Status LlmcWriter::Finish() {
  CHECK(!finished_) << "Finish twice of " << path_;
  RETURN_IF_ERROR(body_->Close());
  RETURN_IF_ERROR(WriteWithHeader());
  RETURN_IF_ERROR(fs_.Rename(TemporaryPath(), path_));
  finished_ = true;
  RETURN_IF_ERROR(fs_.RemoveFile(BodyPath(path_)));
  return fs_.SyncDirectory(ParentPath(path_));
}

absl::Status LlmcWriter::WriteWithHeader() {
  // Read through a buffer: a mapping would count as memory of the shard's size.
  ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> body, OpenByteSource(BodyPath(path_)));
  ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, fs_.Create(TemporaryPath()));
  std::array<int32_t, kLlmcHeaderBytes / 4> header{};
  header[0] = kLlmcMagicU16;
  header[1] = kLlmcVersionU16;
  header[2] = static_cast<int32_t>(size_);
  RETURN_IF_ERROR(file->Append(header.data(), kLlmcHeaderBytes));
  std::vector<char> buffer(kCopyBytes);
  for (;;) {
    ASSIGN_OR_RETURN(const int64_t count, body->Read(buffer.data(), kCopyBytes));
    if (count == 0) break;
    RETURN_IF_ERROR(file->Append(buffer.data(), count));
  }
  RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

absl::Status LlmcWriter::RemoveTemporaries() {
  for (const std::string& path : {BodyPath(path_), TemporaryPath()}) {
    ASSIGN_OR_RETURN(const bool exists, fs_.Exists(path));
    if (exists) RETURN_IF_ERROR(fs_.RemoveFile(path));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenFileWriter>> TokenFileWriter::Create(FileSystem& fs,
                                                                         const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> body, fs.Create(LlmcWriter::BodyPath(path)));
  return std::make_unique<LlmcWriter>(fs, path, std::move(body));
}

}  // namespace entrain
