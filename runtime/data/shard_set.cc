#include "runtime/data/shard_set.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "runtime/base/check.h"

namespace entrain {

ShardSet::ShardSet(FileSystem& fs, std::string folder, std::string prefix, int64_t shard_tokens)
    : fs_(fs), folder_(std::move(folder)), prefix_(std::move(prefix)), shard_tokens_(shard_tokens) {
  CHECK_GE(shard_tokens, 1);
}

absl::Status ShardSet::OpenShard() {
  const std::string name = absl::StrFormat("%s_%06d.bin", prefix_, shards_.size());
  ASSIGN_OR_RETURN(open_, TokenFileWriter::Create(fs_, JoinPath(folder_, name)));
  shards_.push_back({name, 0});
  return absl::OkStatus();
}

absl::Status ShardSet::Append(std::span<const int32_t> tokens) {
  while (!tokens.empty()) {
    if (!open_) RETURN_IF_ERROR(OpenShard());
    const auto part = std::min(static_cast<int64_t>(tokens.size()), shard_tokens_ - open_->size());
    RETURN_IF_ERROR(open_->Append(tokens.data(), part));
    tokens = tokens.subspan(static_cast<size_t>(part));
    shards_.back().num_tokens += part;
    num_tokens_ += part;
    if (open_->size() == shard_tokens_) RETURN_IF_ERROR(Finish());
  }
  return absl::OkStatus();
}

absl::Status ShardSet::Finish() {
  if (!open_) return absl::OkStatus();
  const std::unique_ptr<TokenFileWriter> writer = std::move(open_);
  return writer->Finish();
}

}  // namespace entrain
