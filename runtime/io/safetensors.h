// Reading and writing safetensors files: u64 header length, JSON header, raw little-endian
// row-major data. Format: github.com/huggingface/safetensors. Used for exports and for a
// checkpoint's shards alike.
#ifndef ENTRAIN_RUNTIME_IO_SAFETENSORS_H_
#define ENTRAIN_RUNTIME_IO_SAFETENSORS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/io/file_system.h"

namespace entrain {

// A tensor as the header tells it. dtype is the format's own word ("F32", "BF16", "I32", "F16",
// ...).
struct TensorEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;  // of the mapped file, when reading
};

class SafetensorsFile {
 public:
  // DataLoss, with path and reason, for what is not a valid file: a header that is not JSON or
  // longer than the file, offsets that overlap, leave gaps or pass the end, a size that is not
  // shape × dtype, an unknown dtype, a name twice. Tensors come in the order of their data.
  static absl::StatusOr<SafetensorsFile> Open(FileSystem& fs, const std::string& path);

  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  const TensorEntry* Find(const std::string& name) const;
  // The header's __metadata__.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::unique_ptr<MappedFile> file_;
  std::vector<TensorEntry> tensors_;
  std::unordered_map<std::string, size_t> places_;  // in tensors_, by name
  std::map<std::string, std::string> metadata_;
};

// A tensor to be written. `write` is called once, in order, and must append exactly the tensor's
// bytes through `append`: so that a row-padded or converted tensor needs no copy of the whole.
struct TensorToWrite {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::function<absl::Status(
      const std::function<absl::Status(const void* data, int64_t bytes)>& append)>
      write;
};

// What was written, for a manifest.
struct WrittenFile {
  int64_t bytes = 0;
  std::string checksum;  // XXH3-128 of the whole file, 32 hex digits
};

// Creates `path`, writes all, syncs and closes it. Data begin at a multiple of 64 bytes. A failure
// may leave a part of the file behind. Names must differ and have a size; InvalidArgument when a
// name or metadata is not UTF-8.
absl::StatusOr<WrittenFile> WriteSafetensors(FileSystem& fs, const std::string& path,
                                             const std::vector<TensorToWrite>& tensors,
                                             const std::map<std::string, std::string>& metadata);

// Bytes of one element of a safetensors dtype, or 0 when it is not one.
int64_t SafetensorsElementSize(std::string_view dtype);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_IO_SAFETENSORS_H_
