// CheckpointFolder: the contents of one checkpoint's folder, written and verified. Where it stands among others, when it
// gets its name and when it goes is CheckpointStore's.
#ifndef ENTRAIN_PARALLEL_CHECKPOINT_FOLDER_H_
#define ENTRAIN_PARALLEL_CHECKPOINT_FOLDER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/checkpoint.h"
#include "parallel/tensor_index.h"
#include "runtime/io/manifest.h"

namespace entrain {

// 2: tensors are cut into boxes of a view.
inline constexpr int kCheckpointVersion = 2;
inline constexpr char kStateName[] = "state.json";
inline constexpr char kConfigName[] = "config.toml";

// "shard_00002_of_00004.safetensors": what rank 2 of 4 wrote.
std::string ShardName(int rank, int ranks);

// Upper bound of what all ranks together write of the tensors in `index`, with `contents`' texts.
int64_t CheckpointBytes(const TensorIndex& index, const CheckpointContents& contents);

// Writes this rank's tensors to `name` in `folder` and syncs it; nullopt, and no file, when it has no elements.
absl::StatusOr<std::optional<ManifestFile>> WriteShard(FileSystem& fs, const std::string& folder,
                                                       const std::string& name,
                                                       const CheckpointContents& contents);

// Writes tensors.json, state.json and config.toml beside the shards, each synced, then the manifest, which commits all.
absl::Status CommitShards(FileSystem& fs, const std::string& folder, const TensorIndex& index,
                          const CheckpointContents& contents, std::vector<ManifestFile> shards);

// Commits files that are written and synced as the checkpoint of `step`.
absl::Status CommitCheckpoint(FileSystem& fs, const std::string& folder, int64_t step,
                              const ComputedBy& computed_by, std::vector<ManifestFile> files);

struct CommittedCheckpoint {
  int64_t step = 0;
  ComputedBy computed_by;
  Manifest manifest;
};

// NotFound: never committed. DataLoss: damaged; names file and difference, of several files the first in the manifest.
// FailedPrecondition: of another version. check_contents = false looks at the sizes of the files only.
absl::StatusOr<CommittedCheckpoint> VerifyCheckpoint(FileSystem& fs, const std::string& folder,
                                                     bool check_contents = true);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_CHECKPOINT_FOLDER_H_
