// MegatronTokenFile: Megatron-LM's pairs of .bin (tokens) and .idx (where its sequences lie).
#ifndef ENTRAIN_RUNTIME_DATA_MEGATRON_TOKEN_FILE_H_
#define ENTRAIN_RUNTIME_DATA_MEGATRON_TOKEN_FILE_H_

#include <memory>
#include <string>

#include "runtime/data/token_file.h"

namespace entrain {

// path with its extension .bin or .idx replaced by the other's; "" when it has neither.
std::string MegatronIndexPath(const std::string& path);
std::string MegatronDataPath(const std::string& path);

// `path`: the .bin or the .idx; the other lies beside it. The .idx, little-endian and unpadded:
// "MMIDIDX\0\0"; u64 1; u8 dtype (8 = u16, 4 = i32); u64 S; u64 D; i32[S] lengths; i64[S] byte
// offsets into .bin; i64[D] document indices (first 0, last S). All of it is checked against the
// lengths of both files.
absl::StatusOr<std::unique_ptr<TokenFile>> OpenMegatronFile(FileSystem& fs,
                                                            const std::string& path);

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_MEGATRON_TOKEN_FILE_H_
