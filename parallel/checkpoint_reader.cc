#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "parallel/checkpoint.h"
#include "parallel/checkpoint_folder.h"

namespace entrain {
namespace {

const ManifestFile* Find(const Manifest& manifest, const std::string& name) {
  for (const ManifestFile& file : manifest.files) {
    if (file.name == name) return &file;
  }
  return nullptr;
}

// Only what the manifest lists is ever verified.
absl::Status CheckListed(const Manifest& manifest, const std::string& folder,
                         const std::string& name) {
  if (Find(manifest, name) != nullptr) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("checkpoint '", folder, "': its manifest does not list ", name));
}

// The files of `manifest` that are among `names`, in its order.
Manifest Selected(const Manifest& manifest, const std::set<std::string>& names) {
  Manifest selected;
  for (const ManifestFile& file : manifest.files) {
    if (names.count(file.name) > 0) selected.files.push_back(file);
  }
  return selected;
}

absl::StatusOr<std::string> ReadListed(FileSystem& fs, const Manifest& manifest,
                                       const std::string& folder, const std::string& name) {
  RETURN_IF_ERROR(CheckListed(manifest, folder, name));
  return fs.ReadText(JoinPath(folder, name));
}

// "'a', 'b' and 3 more"
std::string NameSome(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  const auto shown = names.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, names.size()));
  std::string text = absl::StrCat("'", absl::StrJoin(names.begin(), shown, "', '"), "'");
  if (names.size() > kShown) absl::StrAppend(&text, " and ", names.size() - kShown, " more");
  return text;
}

}  // namespace

absl::StatusOr<CheckpointReader> CheckpointReader::Open(FileSystem& fs, const std::string& path,
                                                        Verification verification) {
  const bool everything = verification == Verification::kEverything;
  ASSIGN_OR_RETURN(CommittedCheckpoint committed, VerifyCheckpoint(fs, path, everything));
  CheckpointReader reader;
  reader.fs_ = &fs;
  reader.path_ = path;
  reader.step_ = committed.step;
  reader.computed_by_ = committed.computed_by;
  if (!everything) {
    const std::set<std::string> texts = {kTensorIndexName, kStateName, kConfigName};
    RETURN_IF_ERROR(VerifyManifest(fs, path, Selected(committed.manifest, texts)));
    reader.unverified_ = committed.manifest;
  }
  ASSIGN_OR_RETURN(reader.state_json_, ReadListed(fs, committed.manifest, path, kStateName));
  ASSIGN_OR_RETURN(reader.config_toml_, ReadListed(fs, committed.manifest, path, kConfigName));
  ASSIGN_OR_RETURN(const std::string text,
                   ReadListed(fs, committed.manifest, path, kTensorIndexName));
  absl::StatusOr<TensorIndex> index = ParseTensorIndex(text);
  if (!index.ok()) {
    return absl::DataLossError(
        absl::StrCat("'", JoinPath(path, kTensorIndexName), "': ", index.status().message()));
  }
  RETURN_IF_ERROR(reader.OpenPieces(committed.manifest, *std::move(index)));
  return reader;
}

absl::Status CheckpointReader::OpenPieces(const Manifest& manifest, TensorIndex index) {
  for (IndexedTensor& tensor : index.tensors) {
    for (const TensorPiece& piece : tensor.pieces) {
      if (shards_.find(piece.file) == shards_.end()) {
        RETURN_IF_ERROR(CheckListed(manifest, path_, piece.file));
        ASSIGN_OR_RETURN(SafetensorsFile file,
                         SafetensorsFile::Open(*fs_, JoinPath(path_, piece.file)));
        shards_.emplace(piece.file, std::move(file));
      }
      RETURN_IF_ERROR(CheckPiece(tensor, piece));
    }
    tensors_.push_back({tensor.name, tensor.shape, DescribeCut(tensor)});
    const std::string name = tensor.name;
    index_.emplace(name, std::move(tensor));
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::CheckPiece(const IndexedTensor& tensor,
                                          const TensorPiece& piece) const {
  const SafetensorsFile& shard = shards_.at(piece.file);
  const std::string key = PieceKey(tensor, piece.box);
  const TensorEntry* entry = shard.Find(key);
  if (entry != nullptr && entry->dtype == tensor.dtype && entry->shape == piece.box.shape)
    return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("'", shard.path(), "' does not hold '", key, "' as ",
                                          tensor.dtype, " ", FormatShape(piece.box.shape), ", as ",
                                          kTensorIndexName, " says"));
}

absl::Status CheckpointReader::CheckFits(const std::vector<StateTensor>& tensors,
                                         bool ignore_unread) const {
  std::vector<std::string> missing;
  std::set<std::string> asked;
  for (const StateTensor& tensor : tensors) {
    asked.insert(tensor.name);
    const auto found = index_.find(tensor.name);
    if (found == index_.end()) {
      missing.push_back(tensor.name);
    } else if (found->second.shape != tensor.global_shape) {
      return absl::FailedPreconditionError(absl::StrCat(
          "checkpoint '", path_, "': '", tensor.name, "' has shape ",
          FormatShape(found->second.shape), ", this model has ", FormatShape(tensor.global_shape),
          ": use the configuration it was saved with"));
    }
  }
  std::vector<std::string> unread;
  for (const TensorInfo& tensor : tensors_) {
    if (!ignore_unread && asked.count(tensor.name) == 0) unread.push_back(tensor.name);
  }
  if (missing.empty() && unread.empty()) return absl::OkStatus();
  std::string what;
  if (!missing.empty()) absl::StrAppend(&what, " it has no ", NameSome(missing), ";");
  if (!unread.empty())
    absl::StrAppend(&what, " it has ", NameSome(unread), ", which this model has not;");
  return absl::FailedPreconditionError(absl::StrCat("checkpoint '", path_,
                                                    "' is of another model:", what,
                                                    " use the configuration it was saved with"));
}

absl::Status CheckpointReader::VerifyShards(const std::vector<StateTensor>& tensors) const {
  if (unverified_.files.empty()) return absl::OkStatus();
  std::set<std::string> needed;
  for (const StateTensor& tensor : tensors) {
    const IndexedTensor& saved = index_.at(tensor.name);
    const bool same_view = saved.viewed_shape() == tensor.viewed_shape();
    for (const TensorPiece& piece : saved.pieces) {
      // Of another view: whether the boxes have anything in common is not worth finding out.
      const bool apart = same_view && Intersection(piece.box, tensor.box).elements() == 0;
      if (!apart && tensor.box.elements() > 0) needed.insert(piece.file);
    }
  }
  return VerifyManifest(*fs_, path_, Selected(unverified_, needed));
}

absl::Status CheckpointReader::Read(const std::vector<StateTensor>& tensors,
                                    bool ignore_unread) const {
  for (const StateTensor& tensor : tensors) CheckStateTensor(tensor);
  RETURN_IF_ERROR(CheckFits(tensors, ignore_unread));
  RETURN_IF_ERROR(VerifyShards(tensors));
  for (const StateTensor& tensor : tensors) {
    const IndexedTensor& saved = index_.at(tensor.name);
    for (const TensorPiece& piece : saved.pieces) {
      const TensorEntry* entry = shards_.at(piece.file).Find(PieceKey(saved, piece.box));
      CopyCommon(saved.viewed_shape(), piece.box, entry->data.data(), tensor.viewed_shape(),
                 tensor.box, tensor.data);
    }
  }
  return absl::OkStatus();
}

}  // namespace entrain
