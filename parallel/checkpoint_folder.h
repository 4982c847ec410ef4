// CheckpointFolder: the contents of one checkpoint's folder, written and verified. Where it stands among others, when it
// gets its name and when it goes is CheckpointStore's.
#ifndef ENTRAIN_PARALLEL_CHECKPOINT_FOLDER_H_
#define ENTRAIN_PARALLEL_CHECKPOINT_FOLDER_H_

#include <cstdint>
#include <string>

#include "parallel/checkpoint.h"
#include "runtime/io/manifest.h"

namespace entrain {

inline constexpr int kCheckpointVersion = 1;
inline constexpr char kStateName[] = "state.json";
inline constexpr char kConfigName[] = "config.toml";

// "shard_00000_of_00001.safetensors"
std::string ShardName(int shard, int shards);

// Upper bound of what WriteCheckpointFolder writes.
int64_t CheckpointBytes(const CheckpointContents& contents);

// Creates `folder` and writes everything into it: shard, tensors.json, state.json, config.toml, each synced, then the
// manifest, which commits them. Every tensor must be whole (one rank).
absl::Status WriteCheckpointFolder(FileSystem& fs, const std::string& folder,
                                   const CheckpointContents& contents);

// Commits files that are written and synced as the checkpoint of `step`.
absl::Status CommitCheckpoint(FileSystem& fs, const std::string& folder, int64_t step,
                              std::vector<ManifestFile> files);

struct CommittedCheckpoint {
  int64_t step = 0;
  Manifest manifest;
};

// NotFound: never committed. DataLoss: damaged; names file and difference. FailedPrecondition: of a later version.
// check_contents = false looks at the sizes of the files only.
absl::StatusOr<CommittedCheckpoint> VerifyCheckpoint(FileSystem& fs, const std::string& folder,
                                                     bool check_contents = true);

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_CHECKPOINT_FOLDER_H_
