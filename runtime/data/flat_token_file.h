// FlatTokenFile: the token files that are one array of integers, with llm.c's header or (nanoGPT)
// without any.
#ifndef ENTRAIN_RUNTIME_DATA_FLAT_TOKEN_FILE_H_
#define ENTRAIN_RUNTIME_DATA_FLAT_TOKEN_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/data/token_file.h"

namespace entrain {

// llm.c: 256 int32 (magic, version, number of tokens, zeros), then the tokens, all little-endian.
inline constexpr int64_t kLlmcHeaderBytes = 1024;
inline constexpr int32_t kLlmcMagicU16 = 20240520;
inline constexpr int32_t kLlmcVersionU16 = 1;
inline constexpr int32_t kLlmcMagicU32 = 20240801;
inline constexpr int32_t kLlmcVersionU32 = 7;

// Copies `count` little-endian elements of `element_bytes` (2: unsigned; 4: two's complement) from
// `from`, which need not be aligned, to `out`.
void CopyTokens(const std::byte* from, int64_t count, int element_bytes, int32_t* out);

bool HasLlmcMagic(std::span<const std::byte> bytes);

absl::StatusOr<std::unique_ptr<TokenFile>> OpenLlmcFile(std::unique_ptr<MappedFile> file,
                                                        const std::string& path);

absl::StatusOr<std::unique_ptr<TokenFile>> OpenNanogptFile(std::unique_ptr<MappedFile> file,
                                                           const std::string& path);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_FLAT_TOKEN_FILE_H_
