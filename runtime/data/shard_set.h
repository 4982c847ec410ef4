// ShardSet: the shards of one split, cut to size.
#ifndef ENTRAIN_RUNTIME_DATA_SHARD_SET_H_
#define ENTRAIN_RUNTIME_DATA_SHARD_SET_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/token_file.h"

namespace entrain {

struct Shard {
  std::string name;  // "train_000000.bin"
  int64_t num_tokens = 0;
};

// Writes <folder>/<prefix>_000000.bin, ..._000001.bin, ..., each of exactly `shard_tokens` tokens but the last; a document
// may go on from one shard to the next.
class ShardSet {
 public:
  ShardSet(FileSystem& fs, std::string folder, std::string prefix, int64_t shard_tokens);

  absl::Status Append(std::span<const int32_t> tokens);
  // Finishes the last shard. A set to which nothing was appended has none.
  absl::Status Finish();
  const std::vector<Shard>& shards() const { return shards_; }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  absl::Status OpenShard();

  FileSystem& fs_;
  std::string folder_;
  std::string prefix_;
  int64_t shard_tokens_;
  int64_t num_tokens_ = 0;
  std::unique_ptr<TokenFileWriter> open_;
  std::vector<Shard> shards_;  // the open one is the last
};

}  // namespace entrain

#endif  // ENTRAIN_RUNTIME_DATA_SHARD_SET_H_
