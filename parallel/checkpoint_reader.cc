#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "parallel/checkpoint.h"
#include "parallel/checkpoint_folder.h"
#include "runtime/base/check.h"

namespace entrain {
namespace {

bool Lists(const Manifest& manifest, const std::string& name) {
  return std::any_of(manifest.files.begin(), manifest.files.end(),
                     [&](const ManifestFile& file) { return file.name == name; });
}

// Only what the manifest lists has been verified.
absl::Status CheckListed(const Manifest& manifest, const std::string& folder,
                         const std::string& name) {
  if (Lists(manifest, name)) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("checkpoint '", folder, "': its manifest does not list ", name));
}

absl::StatusOr<std::string> ReadListed(FileSystem& fs, const Manifest& manifest,
                                       const std::string& folder, const std::string& name) {
  RETURN_IF_ERROR(CheckListed(manifest, folder, name));
  return fs.ReadText(JoinPath(folder, name));
}

TensorBox BoxOf(const StateTensor& tensor) {
  CHECK_EQ(tensor.shape.size(), tensor.global_shape.size()) << tensor.name;
  CHECK(tensor.cut_dim >= -1 && tensor.cut_dim < static_cast<int>(tensor.shape.size()))
      << tensor.name;
  for (size_t dim = 0; dim < tensor.shape.size(); ++dim) {
    const bool cut = static_cast<int>(dim) == tensor.cut_dim;
    const int64_t begin = cut ? tensor.cut_begin : 0;
    CHECK(begin >= 0 && begin + tensor.shape[dim] <= tensor.global_shape[dim])
        << tensor.name << " dim " << dim;
    CHECK(cut || tensor.shape[dim] == tensor.global_shape[dim]) << tensor.name << " dim " << dim;
  }
  return TensorBox::Cut(tensor.shape, tensor.cut_dim, tensor.cut_begin);
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

absl::StatusOr<CheckpointReader> CheckpointReader::Open(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const CommittedCheckpoint committed, VerifyCheckpoint(fs, path));
  CheckpointReader reader;
  reader.path_ = path;
  reader.step_ = committed.step;
  ASSIGN_OR_RETURN(reader.state_json_, ReadListed(fs, committed.manifest, path, kStateName));
  ASSIGN_OR_RETURN(reader.config_toml_, ReadListed(fs, committed.manifest, path, kConfigName));
  ASSIGN_OR_RETURN(const std::string text,
                   ReadListed(fs, committed.manifest, path, kTensorIndexName));
  absl::StatusOr<TensorIndex> index = ParseTensorIndex(text);
  if (!index.ok()) {
    return absl::DataLossError(
        absl::StrCat("'", JoinPath(path, kTensorIndexName), "': ", index.status().message()));
  }
  for (IndexedTensor& tensor : index->tensors) {
    for (const TensorPiece& piece : tensor.pieces) {
      RETURN_IF_ERROR(CheckListed(committed.manifest, path, piece.file));
      RETURN_IF_ERROR(reader.CheckPiece(fs, tensor, piece));
    }
    reader.tensors_.push_back({tensor.name, tensor.shape});
    const std::string name = tensor.name;
    reader.index_.emplace(name, std::move(tensor));
  }
  return reader;
}

absl::Status CheckpointReader::CheckPiece(FileSystem& fs, const IndexedTensor& tensor,
                                          const TensorPiece& piece) {
  auto shard = shards_.find(piece.file);
  if (shard == shards_.end()) {
    ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(fs, JoinPath(path_, piece.file)));
    shard = shards_.emplace(piece.file, std::move(file)).first;
  }
  const TensorEntry* entry = shard->second.Find(tensor.name);
  if (entry != nullptr && entry->dtype == tensor.dtype && entry->shape == piece.shape)
    return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "'", shard->second.path(), "' does not hold '", tensor.name, "' as ", tensor.dtype, " ",
      FormatShape(piece.shape), ", as ", kTensorIndexName, " says"));
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

absl::Status CheckpointReader::Read(const std::vector<StateTensor>& tensors,
                                    bool ignore_unread) const {
  RETURN_IF_ERROR(CheckFits(tensors, ignore_unread));
  for (const StateTensor& tensor : tensors) {
    const TensorBox wanted = BoxOf(tensor);
    for (const TensorPiece& piece : index_.at(tensor.name).pieces) {
      const TensorEntry* entry = shards_.at(piece.file).Find(tensor.name);
      CopyCommon(piece.Box(), entry->data.data(), wanted, tensor.data);
    }
  }
  return absl::OkStatus();
}

}  // namespace entrain
