#include "runtime/data/megatron_token_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/data/flat_token_file.h"

namespace entrain {
namespace {

constexpr std::array<char, 9> kMagic = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
constexpr uint64_t kVersion = 1;
constexpr uint8_t kDtypeU16 = 8;
constexpr uint8_t kDtypeI32 = 4;
constexpr int64_t kVersionAt = 9;
constexpr int64_t kDtypeAt = 17;
constexpr int64_t kNumSequencesAt = 18;
constexpr int64_t kNumDocumentsAt = 26;
constexpr int64_t kLengthsAt = 34;

template <typename T>
T LoadAt(std::span<const std::byte> bytes, int64_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

// The .idx, mapped. Its arrays of int64 are not aligned, so elements are copied out one by one.
class MegatronIndex {
 public:
  static absl::StatusOr<MegatronIndex> Open(FileSystem& fs, const std::string& path);

  int64_t num_sequences() const { return num_sequences_; }
  int element_bytes() const { return element_bytes_; }
  const std::string& path() const { return path_; }
  int64_t Length(int64_t sequence) const {
    return LoadAt<int32_t>(file_->bytes(), kLengthsAt + 4 * sequence);
  }
  int64_t Offset(int64_t sequence) const {
    return LoadAt<int64_t>(file_->bytes(), offsets_at() + 8 * sequence);
  }

 private:
  int64_t offsets_at() const { return kLengthsAt + 4 * num_sequences_; }
  int64_t Document(int64_t i) const {
    return LoadAt<int64_t>(file_->bytes(), offsets_at() + 8 * num_sequences_ + 8 * i);
  }
  absl::Status ReadHeader();
  absl::Status CheckDocuments() const;

  std::unique_ptr<MappedFile> file_;
  std::string path_;
  int64_t num_sequences_ = 0;
  int64_t num_documents_ = 0;
  int element_bytes_ = 0;
};

absl::StatusOr<MegatronIndex> MegatronIndex::Open(FileSystem& fs, const std::string& path) {
  MegatronIndex index;
  ASSIGN_OR_RETURN(index.file_, fs.Map(path));
  index.path_ = path;
  RETURN_IF_ERROR(index.ReadHeader());
  RETURN_IF_ERROR(index.CheckDocuments());
  return index;
}

absl::Status MegatronIndex::ReadHeader() {
  const std::span<const std::byte> bytes = file_->bytes();
  const auto size = static_cast<int64_t>(bytes.size());
  if (size < kLengthsAt || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": not a Megatron index: expected a header of ", kLengthsAt,
                     " bytes that begins with MMIDIDX; the file has ", size, " bytes"));
  }
  if (const auto version = LoadAt<uint64_t>(bytes, kVersionAt); version != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": Megatron index: expected version ", kVersion, ", found ", version));
  }
  const auto dtype = LoadAt<uint8_t>(bytes, kDtypeAt);
  if (dtype != kDtypeU16 && dtype != kDtypeI32) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": Megatron index: expected dtype ",
                                                   kDtypeU16, " (uint16) or ", kDtypeI32,
                                                   " (int32), found ", dtype));
  }
  const auto sequences = LoadAt<uint64_t>(bytes, kNumSequencesAt);
  const auto documents = LoadAt<uint64_t>(bytes, kNumDocumentsAt);
  // Compared before they are multiplied: a damaged count must not wrap around.
  const auto bound = static_cast<uint64_t>(size);
  if (sequences > bound || documents > bound ||
      bound != static_cast<uint64_t>(kLengthsAt) + 12 * sequences + 8 * documents) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": its header tells of ", sequences, " sequences and ", documents,
                     " document indices, which take ", kLengthsAt, " + 12·", sequences, " + 8·",
                     documents, " bytes; the file has ", size));
  }
  element_bytes_ = dtype == kDtypeU16 ? 2 : 4;
  num_sequences_ = static_cast<int64_t>(sequences);
  num_documents_ = static_cast<int64_t>(documents);
  return absl::OkStatus();
}

absl::Status MegatronIndex::CheckDocuments() const {
  bool fits =
      num_documents_ >= 1 && Document(0) == 0 && Document(num_documents_ - 1) == num_sequences_;
  for (int64_t i = 1; fits && i < num_documents_; ++i) fits = Document(i) >= Document(i - 1);
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path_, ": its document indices must rise from 0 to the number of sequences, ",
                   num_sequences_, ", and do not"));
}

class MegatronTokenFile : public TokenFile {
 public:
  MegatronTokenFile(MegatronIndex index, std::unique_ptr<MappedFile> data, std::string path)
      : index_(std::move(index)), data_(std::move(data)), path_(std::move(path)) {}

  // Holds the sequences against the .bin and adds them up; to be called once, before use.
  absl::Status Lay();

  int64_t size() const override { return size_; }
  void Read(int64_t begin, int64_t count, int32_t* out) const override;
  const std::string& path() const override { return path_; }

 private:
  void ReadStretch(int64_t byte_offset, int64_t count, int32_t* out) const {
    CopyTokens(data_->bytes().data() + byte_offset, count, index_.element_bytes(), out);
  }

  MegatronIndex index_;
  std::unique_ptr<MappedFile> data_;
  std::string path_;
  int64_t size_ = 0;
  // First token of each sequence. Empty when the sequences follow one another from the start of the
  // .bin, as Megatron's own tools write them: then a token's place needs no search, and no memory
  // is spent on it.
  std::vector<int64_t> first_token_;
};

absl::Status MegatronTokenFile::Lay() {
  const auto data_bytes = static_cast<int64_t>(data_->bytes().size());
  const int element_bytes = index_.element_bytes();
  bool contiguous = true;
  int64_t furthest = 0;
  for (int64_t i = 0; i < index_.num_sequences(); ++i) {
    const int64_t length = index_.Length(i);
    const int64_t offset = index_.Offset(i);
    if (length < 0 || offset < 0 || offset > data_bytes ||
        length > (data_bytes - offset) / element_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          index_.path(), ": sequence ", i, " is said to have ", length, " tokens from byte ",
          offset, " of ", path_, ", which has ", data_bytes, " bytes"));
    }
    contiguous = contiguous && offset == size_ * element_bytes;
    size_ += length;
    furthest = std::max(furthest, offset + length * element_bytes);
  }
  if (furthest != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(index_.path(), ": its sequences end at byte ", furthest, " of ", path_,
                     ", which has ", data_bytes, " bytes: the two files are not of one pair"));
  }
  if (contiguous) return absl::OkStatus();
  first_token_.reserve(static_cast<size_t>(index_.num_sequences()));
  int64_t first = 0;
  for (int64_t i = 0; i < index_.num_sequences(); ++i) {
    first_token_.push_back(first);
    first += index_.Length(i);
  }
  return absl::OkStatus();
}

void MegatronTokenFile::Read(int64_t begin, int64_t count, int32_t* out) const {
  CHECK(begin >= 0 && count >= 0 && begin + count <= size_) << begin << "+" << count;
  if (first_token_.empty()) {
    ReadStretch(begin * index_.element_bytes(), count, out);
    return;
  }
  const auto after = std::upper_bound(first_token_.begin(), first_token_.end(), begin);
  for (int64_t i = after - first_token_.begin() - 1; count > 0; ++i) {
    const int64_t skipped = begin - first_token_[static_cast<size_t>(i)];
    const int64_t stretch = std::min(count, index_.Length(i) - skipped);
    ReadStretch(index_.Offset(i) + skipped * index_.element_bytes(), stretch, out);
    begin += stretch;
    count -= stretch;
    out += stretch;
  }
}

std::string ReplaceExtension(const std::string& path, std::string_view extension) {
  if (!path.ends_with(".bin") && !path.ends_with(".idx")) return "";
  return path.substr(0, path.size() - 4) + std::string(extension);
}

}  // namespace

std::string MegatronIndexPath(const std::string& path) { return ReplaceExtension(path, ".idx"); }
std::string MegatronDataPath(const std::string& path) { return ReplaceExtension(path, ".bin"); }

absl::StatusOr<std::unique_ptr<TokenFile>> OpenMegatronFile(FileSystem& fs,
                                                            const std::string& path) {
  const std::string index_path = MegatronIndexPath(path);
  const std::string data_path = MegatronDataPath(path);
  if (index_path.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": a Megatron pair is named by its .bin or its .idx, or by what both have before"));
  }
  ASSIGN_OR_RETURN(MegatronIndex index, MegatronIndex::Open(fs, index_path));
  ASSIGN_OR_RETURN(std::unique_ptr<MappedFile> data, fs.Map(data_path));
  auto file = std::make_unique<MegatronTokenFile>(std::move(index), std::move(data), data_path);
  RETURN_IF_ERROR(file->Lay());
  return file;
}

}  // namespace entrain
