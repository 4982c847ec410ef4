#include "runtime/data/flat_token_file.h"

#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

class FlatTokenFile : public TokenFile {
 public:
  FlatTokenFile(std::unique_ptr<MappedFile> file, std::string path, int64_t header_bytes,
                int element_bytes)
      : file_(std::move(file)),
        path_(std::move(path)),
        tokens_(file_->bytes().subspan(static_cast<size_t>(header_bytes))),
        element_bytes_(element_bytes) {}

  int64_t size() const override { return static_cast<int64_t>(tokens_.size()) / element_bytes_; }

  void Read(int64_t begin, int64_t count, int32_t* out) const override {
    CHECK(begin >= 0 && count >= 0 && begin + count <= size()) << begin << "+" << count;
    CopyTokens(tokens_.data() + begin * element_bytes_, count, element_bytes_, out);
  }

  const std::string& path() const override { return path_; }

 private:
  std::unique_ptr<MappedFile> file_;
  std::string path_;
  std::span<const std::byte> tokens_;
  int element_bytes_;
};

struct LlmcHeader {
  int32_t magic;
  int32_t version;
  // llm.c's own type is int32; read as unsigned it can say twice as much, and the file's length
  // tells whether it is meant.
  uint32_t num_tokens;
};

int ElementBytes(const LlmcHeader& header) { return header.magic == kLlmcMagicU16 ? 2 : 4; }

absl::Status CheckVersion(const LlmcHeader& header, const std::string& path) {
  const int32_t expected = header.magic == kLlmcMagicU16 ? kLlmcVersionU16 : kLlmcVersionU32;
  if (header.version == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": llm.c token file with magic number ",
                                                 header.magic, ": expected version ", expected,
                                                 ", found ", header.version));
}

absl::Status CheckLength(const LlmcHeader& header, int64_t file_bytes, const std::string& path) {
  const int64_t expected =
      kLlmcHeaderBytes + static_cast<int64_t>(header.num_tokens) * ElementBytes(header);
  if (file_bytes == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": its header tells of ", header.num_tokens, " tokens, which take ", expected,
      " bytes; the file has ", file_bytes, ": it was ", file_bytes < expected ? "cut" : "added to",
      " after it was written, or never finished; make it again"));
}

}  // namespace

void CopyTokens(const std::byte* from, int64_t count, int element_bytes, int32_t* out) {
  if (element_bytes == 4) {
    if (count > 0) std::memcpy(out, from, static_cast<size_t>(count) * 4);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint16_t token = 0;
    std::memcpy(&token, from + 2 * i, sizeof(token));
    out[i] = token;
  }
}

bool HasLlmcMagic(std::span<const std::byte> bytes) {
  int32_t magic = 0;
  if (bytes.size() < sizeof(magic)) return false;
  std::memcpy(&magic, bytes.data(), sizeof(magic));
  return magic == kLlmcMagicU16 || magic == kLlmcMagicU32;
}

absl::StatusOr<std::unique_ptr<TokenFile>> OpenLlmcFile(std::unique_ptr<MappedFile> file,
                                                        const std::string& path) {
  const std::span<const std::byte> bytes = file->bytes();
  if (static_cast<int64_t>(bytes.size()) < kLlmcHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": an llm.c token file begins with a header of ", kLlmcHeaderBytes,
                     " bytes; the file has ", bytes.size()));
  }
  LlmcHeader header{};
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (!HasLlmcMagic(bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not an llm.c token file: expected the magic number ", kLlmcMagicU16,
                     " or ", kLlmcMagicU32, ", found ", header.magic));
  }
  RETURN_IF_ERROR(CheckVersion(header, path));
  RETURN_IF_ERROR(CheckLength(header, static_cast<int64_t>(bytes.size()), path));
  return std::make_unique<FlatTokenFile>(std::move(file), path, kLlmcHeaderBytes,
                                         ElementBytes(header));
}

absl::StatusOr<std::unique_ptr<TokenFile>> OpenNanogptFile(std::unique_ptr<MappedFile> file,
                                                           const std::string& path) {
  const size_t size = file->bytes().size();
  if (size % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": a nanoGPT token file is a run of 2-byte tokens; the file has an odd number of ",
        "bytes, ", size));
  }
  return std::make_unique<FlatTokenFile>(std::move(file), path, 0, 2);
}

}  // namespace entrain
