#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "parallel/checkpoint.h"
#include "parallel/checkpoint_folder.h"
#include "parallel/checkpoint_gather.h"
#include "runtime/base/check.h"
#include "runtime/io/byte_size.h"

namespace entrain {
namespace {

constexpr char kPrefix[] = "step_";
constexpr char kTemporaryPrefix[] = "tmp_step_";

// Creates `folder` with those above it; each new name is synced, so that the folder is there after a power cut too.
absl::Status MakeFolderDurably(FileSystem& fs, const std::string& folder) {
  ASSIGN_OR_RETURN(const bool exists, fs.IsDirectory(folder));
  if (exists) return absl::OkStatus();
  const std::string parent = ParentPath(folder);
  RETURN_IF_ERROR(MakeFolderDurably(fs, parent));
  RETURN_IF_ERROR(fs.MakeDirectories(folder));
  return fs.SyncDirectory(parent);
}

// What an earlier save or removal left when it was interrupted.
absl::Status RemoveTemporary(FileSystem& fs, const std::string& folder) {
  ASSIGN_OR_RETURN(const std::vector<DirEntry> entries, fs.List(folder));
  for (const DirEntry& entry : entries) {
    if (!absl::StartsWith(entry.name, kTemporaryPrefix)) continue;
    RETURN_IF_ERROR(fs.RemoveTree(JoinPath(folder, entry.name)));
  }
  return absl::OkStatus();
}

absl::Status CheckSpace(FileSystem& fs, const std::string& folder, int64_t step, int64_t needed) {
  ASSIGN_OR_RETURN(const int64_t free, fs.FreeSpace(folder));
  if (needed <= free) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "no space for ", CheckpointName(step), " in '", folder, "': it needs ", FormatBytes(needed),
      ", ", FormatBytes(free), " are free: free some, or put the run's folder on a larger disk"));
}

// Verified, and really of the step that its name tells.
absl::Status VerifyAs(FileSystem& fs, const CheckpointInfo& info) {
  ASSIGN_OR_RETURN(const CommittedCheckpoint committed, VerifyCheckpoint(fs, info.path));
  if (committed.step == info.step) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("'", info.path, "' holds step ", committed.step,
                                          ": it was renamed after it was saved"));
}

// What is there is not a whole checkpoint, as opposed to: it cannot be looked at.
bool IsDamage(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsNotFound(status);
}

// Not to be judged here: a later program's, or closed to this user. To fall back behind it would throw training away, and
// so would replacing it.
bool IsOutOfReach(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) || absl::IsPermissionDenied(status);
}

// What other ranks wrote must be here too: on nodes that each have a disk of their own it is not.
absl::Status CheckVisible(FileSystem& fs, const std::string& folder, const ManifestFile& shard) {
  const absl::StatusOr<int64_t> bytes = fs.FileSize(JoinPath(folder, shard.name));
  if (bytes.ok() && *bytes == shard.bytes) return absl::OkStatus();
  if (!bytes.ok() && !absl::IsNotFound(bytes.status())) return bytes.status();
  return absl::FailedPreconditionError(absl::StrCat(
      "'", JoinPath(folder, shard.name), "' was written by another rank, and the first one sees ",
      bytes.ok() ? absl::StrCat(*bytes, " of its ", shard.bytes, " bytes") : "no such file",
      ": the run's folder must be on a file system that all nodes share"));
}

// Under a temporary name first: a removal that is interrupted leaves no half checkpoint under a real name.
absl::Status RemoveCheckpoint(FileSystem& fs, const std::string& folder,
                              const CheckpointInfo& info) {
  const std::string temporary = JoinPath(folder, absl::StrCat("tmp_", CheckpointName(info.step)));
  RETURN_IF_ERROR(fs.Rename(info.path, temporary));
  return fs.RemoveTree(temporary);
}

}  // namespace

std::string CheckpointName(int64_t step) {
  CHECK_GE(step, 0);
  return absl::StrFormat("%s%08d", kPrefix, step);
}

int64_t CheckpointStep(const std::string& name) {
  absl::string_view digits = name;
  int64_t step = -1;
  if (!absl::ConsumePrefix(&digits, kPrefix) || !absl::SimpleAtoi(digits, &step) || step < 0)
    return -1;
  return CheckpointName(step) == name ? step : -1;
}

absl::StatusOr<std::string> CheckpointStore::Save(Communicator& world,
                                                  const CheckpointContents& contents,
                                                  const RetentionPolicy& retention,
                                                  std::string* warning) {
  CHECK_GE(retention.keep, 2) << "a checkpoint can only be trusted while there is one before it";
  const bool first = world.rank() == 0;
  ASSIGN_OR_RETURN(const TensorIndex index, GatherTensorIndex(world, contents));
  absl::StatusOr<Present> begun = Present::kNothing;
  if (first) begun = Begin(contents, index);
  RETURN_IF_ERROR(world.Agree(begun.status(), "beginning a checkpoint"));
  auto present = static_cast<int32_t>(*begun);
  world.Broadcast({&present, DType::kI32, {1}}, 0, "what there is of a checkpoint");
  if (static_cast<Present>(present) != Present::kCommitted) {
    RETURN_IF_ERROR(WriteAll(world, contents, index, static_cast<Present>(present)));
  }
  absl::Status finished;
  if (first) finished = Finish(contents.step, retention, warning);
  RETURN_IF_ERROR(world.Agree(finished, "finishing a checkpoint"));
  return InfoOf(contents.step).path;
}

// Rank 0, before anybody writes: cleans up, looks what is there, and makes the temporary folder unless it is committed.
absl::StatusOr<CheckpointStore::Present> CheckpointStore::Begin(const CheckpointContents& contents,
                                                                const TensorIndex& index) const {
  RETURN_IF_ERROR(MakeFolderDurably(fs_, folder_));
  RETURN_IF_ERROR(RemoveTemporary(fs_, folder_));
  const CheckpointInfo info = InfoOf(contents.step);
  ASSIGN_OR_RETURN(const bool exists, fs_.Exists(info.path));
  const absl::Status found = exists ? VerifyAs(fs_, info) : absl::NotFoundError("");
  if (IsOutOfReach(found)) return found;
  if (found.ok()) return Present::kCommitted;
  RETURN_IF_ERROR(CheckSpace(fs_, folder_, contents.step, CheckpointBytes(index, contents)));
  const std::string temporary = TemporaryOf(contents.step);
  const absl::Status made = fs_.MakeDirectories(temporary);
  if (!made.ok()) {
    fs_.RemoveTree(temporary).IgnoreError();
    return made;
  }
  return exists ? Present::kDamaged : Present::kNothing;
}

absl::Status CheckpointStore::WriteAll(Communicator& world, const CheckpointContents& contents,
                                       const TensorIndex& index, Present present) const {
  const bool first = world.rank() == 0;
  const std::string temporary = TemporaryOf(contents.step);
  const std::string name = ShardName(world.rank(), world.size());
  const auto shard = WriteShard(fs_, temporary, name, contents);
  absl::Status status = world.Agree(shard.status(), "writing shards");
  if (status.ok()) {
    std::vector<ManifestFile> shards = GatherShards(world, *shard);
    if (first) status = Commit(contents, index, std::move(shards), name, present);
    status = world.Agree(status, "committing a checkpoint");
  }
  if (status.ok()) return status;
  // What was written is of no use and may be what fills the disk. Nobody ends the run before it is removed.
  if (first) fs_.RemoveTree(temporary).IgnoreError();
  world.Barrier("removing a checkpoint that failed");
  return status;
}

// Rank 0, when all shards are on the disk.
absl::Status CheckpointStore::Commit(const CheckpointContents& contents, const TensorIndex& index,
                                     std::vector<ManifestFile> shards, const std::string& own_shard,
                                     Present present) const {
  const std::string temporary = TemporaryOf(contents.step);
  const CheckpointInfo info = InfoOf(contents.step);
  for (const ManifestFile& shard : shards) {
    if (shard.name != own_shard) RETURN_IF_ERROR(CheckVisible(fs_, temporary, shard));
  }
  RETURN_IF_ERROR(CommitShards(fs_, temporary, index, contents, std::move(shards)));
  if (present == Present::kDamaged) RETURN_IF_ERROR(fs_.RemoveTree(info.path));
  return fs_.Rename(temporary, info.path);
}

// Rank 0, when the checkpoint has its name.
absl::Status CheckpointStore::Finish(int64_t step, const RetentionPolicy& retention,
                                     std::string* warning) const {
  RETURN_IF_ERROR(fs_.SyncDirectory(folder_));
  const absl::Status removed = RemoveOld(retention, step);
  if (!removed.ok() && warning != nullptr) {
    *warning = absl::StrCat("an old checkpoint could not be removed: ", removed.message());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<CheckpointInfo>> CheckpointStore::List() const {
  std::vector<CheckpointInfo> found;
  const absl::StatusOr<std::vector<DirEntry>> entries = fs_.List(folder_);
  if (absl::IsNotFound(entries.status())) return found;
  RETURN_IF_ERROR(entries.status());
  for (const DirEntry& entry : *entries) {
    const int64_t step = CheckpointStep(entry.name);
    if (entry.is_directory && step >= 0) found.push_back(InfoOf(step));
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.step < b.step; });
  return found;
}

absl::StatusOr<CheckpointInfo> CheckpointStore::FindLatest(
    std::vector<DamagedCheckpoint>* damaged) const {
  ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> found, List());
  absl::Status newest;
  for (auto it = found.rbegin(); it != found.rend(); ++it) {
    const CheckpointInfo& info = *it;
    const absl::Status status = VerifyAs(fs_, info);
    if (status.ok()) return info;
    if (IsOutOfReach(status)) return status;
    if (newest.ok()) newest = status;
    if (damaged != nullptr) damaged->push_back({info, status});
  }
  if (found.empty())
    return absl::NotFoundError(absl::StrCat("there is no checkpoint in '", folder_, "'"));
  return absl::NotFoundError(absl::StrCat("none of the ", found.size(), " checkpoints in '",
                                          folder_,
                                          "' can be used; the newest: ", newest.message()));
}

absl::StatusOr<CheckpointInfo> CheckpointStore::Find(int64_t step) const {
  ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> found, List());
  for (const CheckpointInfo& info : found) {
    if (info.step != step) continue;
    RETURN_IF_ERROR(VerifyAs(fs_, info));
    return info;
  }
  const std::string steps = absl::StrJoin(
      found, ", ", [](std::string* out, const auto& info) { absl::StrAppend(out, info.step); });
  return absl::NotFoundError(absl::StrCat("there is no checkpoint of step ", step, " in '", folder_,
                                          "'; there is ", steps.empty() ? "none" : steps));
}

absl::Status CheckpointStore::RemoveOld(const RetentionPolicy& retention, int64_t newest) const {
  ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> found, List());
  absl::Status first_error;
  int whole = 0;
  for (auto it = found.rbegin(); it != found.rend(); ++it) {
    const CheckpointInfo& info = *it;
    if (info.step > newest) continue;
    absl::Status status = VerifyCheckpoint(fs_, info.path, /*check_contents=*/false).status();
    if (absl::IsFailedPrecondition(status)) continue;
    const bool permanent = retention.keep_every > 0 && info.step % retention.keep_every == 0;
    const bool stays = permanent || whole < retention.keep;
    if (status.ok()) ++whole;
    if (!stays && (status.ok() || IsDamage(status))) status = RemoveCheckpoint(fs_, folder_, info);
    if (first_error.ok() && !IsDamage(status)) first_error = status;
  }
  return first_error;
}

CheckpointInfo CheckpointStore::InfoOf(int64_t step) const {
  return {step, JoinPath(folder_, CheckpointName(step))};
}

std::string CheckpointStore::TemporaryOf(int64_t step) const {
  return JoinPath(folder_, absl::StrCat("tmp_", CheckpointName(step)));
}

}  // namespace entrain
