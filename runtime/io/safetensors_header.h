// The JSON header of a safetensors file, to and from text: what the tensors are and where their
// bytes lie.
#ifndef ENTRAIN_RUNTIME_IO_SAFETENSORS_HEADER_H_
#define ENTRAIN_RUNTIME_IO_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/status.h"

namespace entrain {

// A tensor's bytes are [begin, end) of the data that follow the header.
struct SafetensorsHeaderEntry {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t begin = 0;
  int64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsHeaderEntry> tensors;
  std::map<std::string, std::string> metadata;
};

// Shape × element size, or −1 when a size is negative, the dtype unknown or the product passes
// int64.
int64_t SafetensorsBytes(std::string_view dtype, const std::vector<int64_t>& shape);

// The u64 length and the JSON, padded with spaces to a multiple of 64 bytes in all.
// InvalidArgument when a name or a value of the metadata is not UTF-8.
absl::StatusOr<std::string> FormatSafetensorsHeader(const SafetensorsHeader& header);

// `json` is the header without its length; `data_bytes` the size of what follows it. Tensors come
// in the order of their bytes. DataLoss (without a path: the caller knows it) says what is wrong.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, int64_t data_bytes);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_IO_SAFETENSORS_HEADER_H_
