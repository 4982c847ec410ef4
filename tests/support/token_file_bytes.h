// Token files of every readable format, as bytes.
#ifndef ENTRAIN_TESTS_SUPPORT_TOKEN_FILE_BYTES_H_
#define ENTRAIN_TESTS_SUPPORT_TOKEN_FILE_BYTES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/file_contents.h"

namespace entrain {

inline std::string LlmcBytes(int32_t magic, int32_t version, int32_t num_tokens,
                             const std::string& tokens) {
  std::vector<int32_t> header(256);
  header[0] = magic;
  header[1] = version;
  header[2] = num_tokens;
  return BytesOf(header) + tokens;
}

inline std::string LlmcBytes(const std::vector<uint16_t>& tokens) {
  return LlmcBytes(20240520, 1, static_cast<int32_t>(tokens.size()), BytesOf(tokens));
}

inline std::string LlmcBytes(const std::vector<uint32_t>& tokens) {
  return LlmcBytes(20240801, 7, static_cast<int32_t>(tokens.size()), BytesOf(tokens));
}

struct MegatronParts {
  std::string magic = std::string("MMIDIDX\0\0", 9);
  uint64_t version = 1;
  uint8_t dtype = 8;
  std::vector<int32_t> lengths;
  std::vector<int64_t> offsets;
  std::vector<int64_t> documents;

  std::string IndexBytes() const {
    return magic + BytesOf(version) + BytesOf(dtype) +
           BytesOf(static_cast<uint64_t>(lengths.size())) +
           BytesOf(static_cast<uint64_t>(documents.size())) + BytesOf(lengths) + BytesOf(offsets) +
           BytesOf(documents);
  }
};

// The tokens 0, 1, 2, ..., count − 1.
template <typename T>
std::vector<T> CountingTokens(int64_t count) {
  std::vector<T> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<T>(i);
  return tokens;
}

}  // namespace entrain

#endif  // ENTRAIN_TESTS_SUPPORT_TOKEN_FILE_BYTES_H_
