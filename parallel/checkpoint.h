// Checkpoints of a run: saved so that a crash at any moment loses nothing that was committed.
//
//   <run>/checkpoints/step_00001000/   shard_00000_of_00002.safetensors, shard_00001_of_00002.safetensors,
//                                      tensors.json, state.json, config.toml, manifest.json
//   <run>/checkpoints/tmp_step_00001000/   one being written: never read, removed by the next save
//
// Order of a save: temporary folder (rank 0), shards and their sync (every rank its own), manifest (rank 0; its rename is the
// commit of the contents), sync, rename of the folder, sync of the parent. "Latest" is the highest step whose manifest and checksums hold; nothing else says so.
#ifndef ENTRAIN_PARALLEL_CHECKPOINT_H_
#define ENTRAIN_PARALLEL_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"
#include "parallel/state_tensor.h"
#include "parallel/tensor_index.h"
#include "runtime/io/file_system.h"
#include "runtime/io/manifest.h"
#include "runtime/io/safetensors.h"

namespace entrain {

// What computed a checkpoint: on the same alone a run repeats its bits. Empty: not recorded.
struct ComputedBy {
  std::string program;      // "entrain 0.1.0"
  std::string device;       // "NVIDIA H200, 139 GiB, sm_90"; of ranks that differ one after another
  std::string libraries;    // "cuBLASLt 13.1.0, cuDNN 9.19.0"
  std::string collectives;  // of several ranks: "NCCL 2.28.9, NCCL_ALGO=Ring, NCCL_PROTO=Simple"
};

// What one rank gives to a save.
struct CheckpointContents {
  int64_t step = 0;  // the same on every rank
  // What this rank writes. A tensor may come in several boxes; all ranks' boxes make up each tensor exactly once.
  std::vector<StateTensor> tensors;
  // Of rank 0. All state that is not a tensor: seed, data position and fingerprint, counters.
  std::string state_json;
  // Of rank 0. The complete configuration of the run.
  std::string config_toml;
  // Of rank 0, for the manifest, which names the program by itself.
  ComputedBy computed_by;
};

// Kept are the newest `keep` (≥ 2) that are whole and every step that is a multiple of keep_every (0: none). Steps higher
// than the one just saved, which a run resumed from an older step has left behind, and what a later version of the program
// wrote are not touched.
struct RetentionPolicy {
  int keep = 2;
  int64_t keep_every = 0;
};

struct CheckpointInfo {
  int64_t step = 0;
  std::string path;
};

// A checkpoint that could not be used, and why.
struct DamagedCheckpoint {
  CheckpointInfo info;
  absl::Status reason;
};

class CheckpointStore {
 public:
  // `folder`: <run>/checkpoints; made at the first save.
  CheckpointStore(FileSystem& fs, std::string folder) : fs_(fs), folder_(std::move(folder)) {}

  // Collective: every rank of `world` calls it, and gets the same status and the committed path once all is done. An error of
  // any rank is named with the rank, and nobody is left waiting. Space for all ranks' bytes is checked first:
  // ResourceExhausted says how much is needed and free. A step that is already committed is left as it is, a damaged one is
  // replaced, one of another version is refused with FailedPrecondition, one that this user may not read with
  // PermissionDenied; so are shards that rank 0 cannot see, on folders
  // that ranks do not share. Internal: the ranks' tensors do not make up whole ones. After an error nothing that was
  // committed is lost and what was written is removed again. After the commit older ones are removed as `retention` of rank 0
  // says; a failure to remove is not a failure to save: it comes back in rank 0's `warning` when that is not null.
  absl::StatusOr<std::string> Save(Communicator& world, const CheckpointContents& contents,
                                   const RetentionPolicy& retention,
                                   std::string* warning = nullptr);

  // Folders of the form step_N, ascending, committed or not.
  absl::StatusOr<std::vector<CheckpointInfo>> List() const;

  // The highest step that verifies; every higher one that does not is added to `damaged` (may be null). NotFound when
  // there is none. FailedPrecondition when a higher one is of another checkpoint version, PermissionDenied when this user may
  // not read it: it is not damaged, and to fall back behind it would throw training away.
  absl::StatusOr<CheckpointInfo> FindLatest(std::vector<DamagedCheckpoint>* damaged) const;

  // The checkpoint of exactly `step`, verified. NotFound lists the steps that there are.
  absl::StatusOr<CheckpointInfo> Find(int64_t step) const;

 private:
  // What is there of a step that is to be saved.
  enum class Present : int32_t { kNothing, kDamaged, kCommitted };
  absl::StatusOr<Present> Begin(const CheckpointContents& contents, const TensorIndex& index) const;
  absl::Status WriteAll(Communicator& world, const CheckpointContents& contents,
                        const TensorIndex& index, Present present) const;
  absl::Status Commit(const CheckpointContents& contents, const TensorIndex& index,
                      std::vector<ManifestFile> shards, const std::string& own_shard,
                      Present present) const;
  absl::Status Finish(int64_t step, const RetentionPolicy& retention, std::string* warning) const;
  absl::Status RemoveOld(const RetentionPolicy& retention, int64_t newest) const;
  CheckpointInfo InfoOf(int64_t step) const;
  std::string TemporaryOf(int64_t step) const;

  FileSystem& fs_;
  std::string folder_;
};

// "step_00001000", and back: −1 when `name` is not one.
std::string CheckpointName(int64_t step);
int64_t CheckpointStep(const std::string& name);

// What of a checkpoint is verified, and when.
enum class Verification {
  kEverything,  // when it is opened
  kWhatIsRead,  // the sizes of all files when it is opened, the contents of those that Read needs before it fills anything:
                // for ranks that read a part each of what one of them has verified
};

// A checkpoint, opened. Tensors are assembled from the pieces that they were saved in.
class CheckpointReader {
 public:
  // NotFound, DataLoss or FailedPrecondition as VerifyCheckpoint gives them; DataLoss also for a list of tensors that is not
  // what the shards hold. `fs` must outlive the reader.
  static absl::StatusOr<CheckpointReader> Open(
      FileSystem& fs, const std::string& path,
      Verification verification = Verification::kEverything);

  int64_t step() const { return step_; }
  const std::string& path() const { return path_; }
  const std::string& state_json() const { return state_json_; }
  const std::string& config_toml() const { return config_toml_; }
  const ComputedBy& computed_by() const { return computed_by_; }
  int num_shards() const { return static_cast<int>(shards_.size()); }

  struct TensorInfo {
    std::string name;
    std::vector<int64_t> global_shape;
    std::string cut;  // DescribeCut
  };
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  // Fills each tensor's box, whatever the cut and the view it was saved under. An error (FailedPrecondition, before anything
  // is filled) names a tensor that is missing here, one that nobody asked for, or shapes that
  // differ: nothing is silently dropped. `ignore_unread` lets tensors that nobody asked for be (eval needs no moments).
  // DataLoss: a shard that was not verified when the checkpoint was opened is damaged.
  absl::Status Read(const std::vector<StateTensor>& tensors, bool ignore_unread = false) const;

 private:
  absl::Status OpenPieces(const Manifest& manifest, TensorIndex index);
  // The piece must be in its shard as the index says.
  absl::Status CheckPiece(const IndexedTensor& tensor, const TensorPiece& piece) const;
  absl::Status CheckFits(const std::vector<StateTensor>& tensors, bool ignore_unread) const;
  absl::Status VerifyShards(const std::vector<StateTensor>& tensors) const;

  FileSystem* fs_ = nullptr;
  std::string path_;
  int64_t step_ = 0;
  std::string state_json_;
  std::string config_toml_;
  ComputedBy computed_by_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, IndexedTensor> index_;
  std::map<std::string, SafetensorsFile> shards_;  // by file name
  Manifest unverified_;                            // what Read must verify when it needs it
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_CHECKPOINT_H_
