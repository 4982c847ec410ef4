#include "runtime/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/io/checksum.h"
#include "runtime/io/safetensors_header.h"

namespace entrain {
namespace {

// The reference implementation's limit: a length that passes it is not a length.
constexpr uint64_t kLargestHeader = 100'000'000;
constexpr size_t kLengthBytes = sizeof(uint64_t);

// The JSON of the header, once the length before it is known to make sense.
absl::StatusOr<std::string_view> HeaderText(std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes) {
    return absl::DataLossError(
        absl::StrCat("it has ", bytes.size(), " bytes, at least 8 begin every such file"));
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kLargestHeader) {
    return absl::DataLossError(absl::StrCat("it begins with a header length of ", length,
                                            ", at most ", kLargestHeader,
                                            " is allowed: not a safetensors file?"));
  }
  const size_t rest = bytes.size() - kLengthBytes;
  if (length > rest) {
    return absl::DataLossError(
        absl::StrCat("its header has ", length, " bytes, only ", rest, " follow: it is cut short"));
  }
  return std::string_view(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
}

absl::Status NameFile(const std::string& path, const absl::Status& status) {
  const absl::string_view reason = status.message();
  return absl::Status(status.code(),
                      absl::StrCat("'", path, "' is not a valid safetensors file: ", reason));
}

// Passes what is appended to a file and to its checksum. Small pieces (rows of a padded tensor) are
// gathered first.
class ChecksummedWriter {
 public:
  explicit ChecksummedWriter(WritableFile& file) : file_(file) { pending_.reserve(kGather); }

  absl::Status Append(const void* data, int64_t bytes) {
    appended_ += bytes;
    const auto size = static_cast<size_t>(bytes);
    if (pending_.size() + size > kGather) RETURN_IF_ERROR(Flush());
    if (size >= kGather) return Pass(data, bytes);
    pending_.append(static_cast<const char*>(data), size);
    return absl::OkStatus();
  }

  absl::Status Flush() {
    if (pending_.empty()) return absl::OkStatus();
    absl::Status status = Pass(pending_.data(), static_cast<int64_t>(pending_.size()));
    pending_.clear();
    return status;
  }

  int64_t appended() const { return appended_; }
  std::string checksum() const { return checksum_.HexDigits(); }

 private:
  static constexpr size_t kGather = size_t{1} << 20;

  // In steps that fit the cache: what was hashed is still there when it is copied to the kernel.
  absl::Status Pass(const void* data, int64_t bytes) {
    constexpr int64_t kStep = int64_t{1} << 20;
    const char* next = static_cast<const char*>(data);
    for (int64_t done = 0; done < bytes; done += kStep) {
      const int64_t step = std::min(kStep, bytes - done);
      checksum_.Add(next + done, step);
      RETURN_IF_ERROR(file_.Append(next + done, step));
    }
    return absl::OkStatus();
  }

  WritableFile& file_;
  Checksum checksum_;
  std::string pending_;
  int64_t appended_ = 0;
};

SafetensorsHeader HeaderOf(const std::vector<TensorToWrite>& tensors,
                           const std::map<std::string, std::string>& metadata) {
  SafetensorsHeader header;
  header.metadata = metadata;
  std::set<std::string> names;
  int64_t cursor = 0;
  for (const TensorToWrite& tensor : tensors) {
    CHECK(names.insert(tensor.name).second) << "tensor '" << tensor.name << "' twice";
    const int64_t bytes = SafetensorsBytes(tensor.dtype, tensor.shape);
    CHECK(bytes >= 0) << "tensor '" << tensor.name << "' of dtype " << tensor.dtype
                      << " has no size";
    header.tensors.push_back({tensor.name, tensor.dtype, tensor.shape, cursor, cursor + bytes});
    cursor += bytes;
  }
  return header;
}

absl::Status WriteTensor(const TensorToWrite& tensor, ChecksummedWriter& writer) {
  const int64_t before = writer.appended();
  RETURN_IF_ERROR(
      tensor.write([&](const void* data, int64_t bytes) { return writer.Append(data, bytes); }));
  CHECK_EQ(writer.appended() - before, SafetensorsBytes(tensor.dtype, tensor.shape))
      << "bytes of " << tensor.name;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(FileSystem& fs, const std::string& path) {
  SafetensorsFile file;
  file.path_ = path;
  ASSIGN_OR_RETURN(file.file_, fs.Map(path));
  const std::span<const std::byte> bytes = file.file_->bytes();
  const absl::StatusOr<std::string_view> text = HeaderText(bytes);
  if (!text.ok()) return NameFile(path, text.status());
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + text->size());
  absl::StatusOr<SafetensorsHeader> header =
      ParseSafetensorsHeader(*text, static_cast<int64_t>(data.size()));
  if (!header.ok()) return NameFile(path, header.status());
  for (SafetensorsHeaderEntry& entry : header->tensors) {
    const auto begin = static_cast<size_t>(entry.begin);
    const auto size = static_cast<size_t>(entry.end - entry.begin);
    file.places_.emplace(entry.name, file.tensors_.size());
    file.tensors_.push_back({std::move(entry.name), std::move(entry.dtype), std::move(entry.shape),
                             data.subspan(begin, size)});
  }
  file.metadata_ = std::move(header->metadata);
  return file;
}

const TensorEntry* SafetensorsFile::Find(const std::string& name) const {
  const auto place = places_.find(name);
  return place == places_.end() ? nullptr : &tensors_[place->second];
}

absl::StatusOr<WrittenFile> WriteSafetensors(FileSystem& fs, const std::string& path,
                                             const std::vector<TensorToWrite>& tensors,
                                             const std::map<std::string, std::string>& metadata) {
  const absl::StatusOr<std::string> header = FormatSafetensorsHeader(HeaderOf(tensors, metadata));
  if (!header.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot write '", path, "': ", header.status().message()));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, fs.Create(path));
  ChecksummedWriter writer(*file);
  RETURN_IF_ERROR(writer.Append(header->data(), static_cast<int64_t>(header->size())));
  for (const TensorToWrite& tensor : tensors) RETURN_IF_ERROR(WriteTensor(tensor, writer));
  RETURN_IF_ERROR(writer.Flush());
  RETURN_IF_ERROR(file->Sync());
  RETURN_IF_ERROR(file->Close());
  return WrittenFile{writer.appended(), writer.checksum()};
}

}  // namespace entrain
