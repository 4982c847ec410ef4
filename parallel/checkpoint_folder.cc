#include "parallel/checkpoint_folder.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "parallel/tensor_index.h"
#include "runtime/base/check.h"
#include "runtime/io/safetensors.h"

namespace entrain {
namespace {

using Json = nlohmann::json;

int64_t BytesOf(const StateTensor& tensor) {
  const int64_t bytes = TensorBox::Cut(tensor.shape, tensor.cut_dim, tensor.cut_begin).elements();
  return bytes * static_cast<int64_t>(sizeof(float));
}

TensorIndex IndexOf(const CheckpointContents& contents, const std::string& shard) {
  TensorIndex index;
  index.step = contents.step;
  for (const StateTensor& tensor : contents.tensors) {
    CHECK(tensor.shape == tensor.global_shape)
        << "'" << tensor.name << "': shape " << FormatShape(tensor.shape) << " of "
        << FormatShape(tensor.global_shape);
    index.tensors.push_back(
        {tensor.name, "F32", tensor.global_shape, {{shard, -1, 0, tensor.shape}}});
  }
  return index;
}

absl::StatusOr<ManifestFile> WriteShard(FileSystem& fs, const std::string& folder,
                                        const std::string& name,
                                        const CheckpointContents& contents) {
  std::vector<TensorToWrite> tensors;
  tensors.reserve(contents.tensors.size());
  for (const StateTensor& tensor : contents.tensors) {
    tensors.push_back({tensor.name, "F32", tensor.shape, [&tensor](const auto& append) {
                         return append(tensor.data, BytesOf(tensor));
                       }});
  }
  const std::map<std::string, std::string> metadata = {{"step", absl::StrCat(contents.step)}};
  ASSIGN_OR_RETURN(WrittenFile written,
                   WriteSafetensors(fs, JoinPath(folder, name), tensors, metadata));
  return ManifestFile{name, written.bytes, std::move(written.checksum)};
}

absl::StatusOr<ManifestFile> WriteTextFile(FileSystem& fs, const std::string& folder,
                                           const std::string& name, const std::string& text) {
  RETURN_IF_ERROR(WriteTextSynced(fs, JoinPath(folder, name), text));
  const auto bytes = static_cast<int64_t>(text.size());
  return ManifestFile{name, bytes, ChecksumOf(text.data(), bytes)};
}

// Step of a manifest's extra; what else it says is checked.
absl::StatusOr<int64_t> StepOf(const Manifest& manifest, const std::string& folder) {
  const Json extra = Json::parse(manifest.extra);  // ReadManifest made this text from JSON
  const auto version = extra.find("checkpoint_version");
  const auto step = extra.find("step");
  if (version == extra.end() || !version->is_number_integer() || step == extra.end() ||
      !step->is_number_unsigned()) {
    return absl::DataLossError(
        absl::StrCat("'", folder, "' is not a checkpoint: its manifest has no step"));
  }
  if (*version != kCheckpointVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "checkpoint '", folder, "' was written by ", manifest.written_by, " in checkpoint version ",
        version->get<int64_t>(), "; entrain " ENTRAIN_VERSION " reads version ", kCheckpointVersion,
        " only: use the program that wrote it"));
  }
  return step->get<int64_t>();
}

}  // namespace

std::string ShardName(int shard, int shards) {
  return absl::StrFormat("shard_%05d_of_%05d.safetensors", shard, shards);
}

int64_t CheckpointBytes(const CheckpointContents& contents) {
  // For headers, the index and the manifest: a tensor's name appears three times, with some 500 bytes around it.
  constexpr int64_t kOverhead = 64 << 10;
  constexpr int64_t kTensorOverhead = 1 << 10;
  auto bytes =
      kOverhead + static_cast<int64_t>(contents.state_json.size() + contents.config_toml.size());
  for (const StateTensor& tensor : contents.tensors) {
    bytes += BytesOf(tensor) + kTensorOverhead + 3 * static_cast<int64_t>(tensor.name.size());
  }
  return bytes;
}

absl::Status WriteCheckpointFolder(FileSystem& fs, const std::string& folder,
                                   const CheckpointContents& contents) {
  const std::string shard = ShardName(0, 1);
  const std::string index = FormatTensorIndex(IndexOf(contents, shard));
  RETURN_IF_ERROR(fs.MakeDirectories(folder));
  std::vector<ManifestFile> files(4);
  ASSIGN_OR_RETURN(files[0], WriteShard(fs, folder, shard, contents));
  ASSIGN_OR_RETURN(files[1], WriteTextFile(fs, folder, kTensorIndexName, index));
  ASSIGN_OR_RETURN(files[2], WriteTextFile(fs, folder, kStateName, contents.state_json));
  ASSIGN_OR_RETURN(files[3], WriteTextFile(fs, folder, kConfigName, contents.config_toml));
  return CommitCheckpoint(fs, folder, contents.step, std::move(files));
}

absl::Status CommitCheckpoint(FileSystem& fs, const std::string& folder, int64_t step,
                              std::vector<ManifestFile> files) {
  Manifest manifest;
  manifest.files = std::move(files);
  manifest.extra = Json{{"checkpoint_version", kCheckpointVersion}, {"step", step}}.dump();
  return CommitManifest(fs, folder, manifest);
}

absl::StatusOr<CommittedCheckpoint> VerifyCheckpoint(FileSystem& fs, const std::string& folder,
                                                     bool check_contents) {
  CommittedCheckpoint committed;
  ASSIGN_OR_RETURN(committed.manifest, ReadManifest(fs, folder));
  ASSIGN_OR_RETURN(committed.step, StepOf(committed.manifest, folder));
  RETURN_IF_ERROR(VerifyManifest(fs, folder, committed.manifest, check_contents));
  return committed;
}

}  // namespace entrain
