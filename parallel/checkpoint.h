// Checkpoints of a run: saved so that a crash at any moment loses nothing that was committed.
//
//   <run>/checkpoints/step_00001000/   shard_00000_of_00001.safetensors, tensors.json, state.json, config.toml,
//                                      manifest.json
//   <run>/checkpoints/tmp_step_00001000/   one being written: never read, removed by the next save
//
// Order of a save: temporary folder, shards, sync, manifest (its rename is the commit of the contents), sync, rename of the
// folder, sync of the parent. "Latest" is the highest step whose manifest and checksums hold; nothing else says so.
#ifndef ENTRAIN_PARALLEL_CHECKPOINT_H_
#define ENTRAIN_PARALLEL_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "parallel/tensor_index.h"
#include "runtime/io/file_system.h"
#include "runtime/io/safetensors.h"

namespace entrain {

// One tensor of training state: `data` is this rank's shard, f32, dense, in memory that outlives the call.
struct StateTensor {
  std::string name;
  std::vector<int64_t> global_shape;
  // The shard is rows [begin, begin + shape[dim]) of dim `cut_dim`; −1: whole on every rank.
  int cut_dim = -1;
  int64_t cut_begin = 0;
  std::vector<int64_t> shape;
  float* data = nullptr;
};

struct CheckpointContents {
  int64_t step = 0;
  std::vector<StateTensor> tensors;
  // All state that is not a tensor: seed, data position and fingerprint, counters.
  std::string state_json;
  // The complete configuration of the run.
  std::string config_toml;
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

  // Saves and returns the committed path. Space is checked first: ResourceExhausted says how much is needed and free.
  // A step that is already committed is left as it is, a damaged one is replaced, one of a later version is refused with
  // FailedPrecondition, one that this user may not read with PermissionDenied. After an error nothing that was committed is lost and what was written is removed again. After the
  // commit older ones are removed as `retention` says; a failure to remove is not a failure to save: it comes back in
  // `warning` when that is not null. Every tensor must be whole: one rank saves.
  absl::StatusOr<std::string> Save(const CheckpointContents& contents,
                                   const RetentionPolicy& retention,
                                   std::string* warning = nullptr);

  // Folders of the form step_N, ascending, committed or not.
  absl::StatusOr<std::vector<CheckpointInfo>> List() const;

  // The highest step that verifies; every higher one that does not is added to `damaged` (may be null). NotFound when
  // there is none. FailedPrecondition when a later version of the program wrote a higher one, PermissionDenied when this
  // user may not read it: it is not damaged, and to fall back behind it would throw training away.
  absl::StatusOr<CheckpointInfo> FindLatest(std::vector<DamagedCheckpoint>* damaged) const;

  // The checkpoint of exactly `step`, verified. NotFound lists the steps that there are.
  absl::StatusOr<CheckpointInfo> Find(int64_t step) const;

 private:
  absl::Status Write(const CheckpointContents& contents, const CheckpointInfo& info, bool replace);
  absl::Status RemoveOld(const RetentionPolicy& retention, int64_t newest) const;
  CheckpointInfo InfoOf(int64_t step) const;

  FileSystem& fs_;
  std::string folder_;
};

// "step_00001000", and back: −1 when `name` is not one.
std::string CheckpointName(int64_t step);
int64_t CheckpointStep(const std::string& name);

// A verified checkpoint, opened. Tensors are assembled from shards by their global shape and cut.
class CheckpointReader {
 public:
  // Verifies every checksum first: NotFound, DataLoss or FailedPrecondition as VerifyCheckpoint gives them.
  static absl::StatusOr<CheckpointReader> Open(FileSystem& fs, const std::string& path);

  int64_t step() const { return step_; }
  const std::string& path() const { return path_; }
  const std::string& state_json() const { return state_json_; }
  const std::string& config_toml() const { return config_toml_; }

  struct TensorInfo {
    std::string name;
    std::vector<int64_t> global_shape;
  };
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  // Fills each tensor's shard, whatever the cut it was saved under. An error (FailedPrecondition, before anything is
  // filled) names a tensor that is missing here, one that nobody asked for, or shapes that
  // differ: nothing is silently dropped. `ignore_unread` lets tensors that nobody asked for be (eval needs no moments).
  absl::Status Read(const std::vector<StateTensor>& tensors, bool ignore_unread = false) const;

 private:
  // Opens the piece's shard at its first use; the piece must be there as the index says.
  absl::Status CheckPiece(FileSystem& fs, const IndexedTensor& tensor, const TensorPiece& piece);
  absl::Status CheckFits(const std::vector<StateTensor>& tensors, bool ignore_unread) const;

  std::string path_;
  int64_t step_ = 0;
  std::string state_json_;
  std::string config_toml_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, IndexedTensor> index_;
  std::map<std::string, SafetensorsFile> shards_;  // by file name
};

}  // namespace entrain

#endif  // ENTRAIN_PARALLEL_CHECKPOINT_H_
