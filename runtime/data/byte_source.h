// ByteSource: the bytes of a file, front to back, decompressed where it is compressed.
#ifndef ENTRAIN_RUNTIME_DATA_BYTE_SOURCE_H_
#define ENTRAIN_RUNTIME_DATA_BYTE_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/base/status.h"

namespace entrain {

// Reads through a small buffer rather than a mapping, so that a process' memory does not grow with the file.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Up to `capacity` (> 0) bytes to `out`; returns how many, 0 only at the end. InvalidArgument: a compressed file that is
  // damaged or ends too early.
  virtual absl::StatusOr<int64_t> Read(char* out, int64_t capacity) = 0;
  // Bytes of the file itself (compressed) read so far.
  virtual int64_t bytes_consumed() const = 0;
};

// A name that ends in .zst is decompressed with zstd (several frames may follow one another).
absl::StatusOr<std::unique_ptr<ByteSource>> OpenByteSource(const std::string& path);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_BYTE_SOURCE_H_
