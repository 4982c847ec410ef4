#include "parallel/checkpoint_folder.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/io/safetensors.h"

namespace entrain {
namespace {

using Json = nlohmann::json;

constexpr char kComputedBy[] = "computed_by";
constexpr auto kElement = static_cast<int64_t>(sizeof(float));

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
    const char* remedy = *version < kCheckpointVersion
                             ? " only: it is from before the release of this format; train anew in "
                               "another folder, or use the program that wrote it"
                             : " only: use the program that wrote it";
    return absl::FailedPreconditionError(
        absl::StrCat("checkpoint '", folder, "' was written by ", manifest.written_by,
                     " in checkpoint version ", version->get<int64_t>(),
                     "; entrain " ENTRAIN_VERSION " reads version ", kCheckpointVersion, remedy));
  }
  return step->get<int64_t>();
}

Json ToJson(const ComputedBy& computed_by) {
  Json json = Json::object();
  const auto add = [&](const char* name, const std::string& text) {
    if (!text.empty()) json[name] = text;
  };
  add("device", computed_by.device);
  add("libraries", computed_by.libraries);
  add("collectives", computed_by.collectives);
  return json;
}

// An older program wrote nothing of it, a later one may write it otherwise: no reason not to read the checkpoint.
ComputedBy ComputedByOf(const Manifest& manifest) {
  const Json extra = Json::parse(manifest.extra);
  const Json json = extra.value(kComputedBy, Json::object());
  const auto text = [&](const char* name) {
    const bool there = json.is_object() && json.contains(name) && json[name].is_string();
    return there ? json[name].get<std::string>() : "";
  };
  return {.program = manifest.written_by,
          .device = text("device"),
          .libraries = text("libraries"),
          .collectives = text("collectives")};
}

}  // namespace

std::string ShardName(int rank, int ranks) {
  return absl::StrFormat("shard_%05d_of_%05d.safetensors", rank, ranks);
}

int64_t CheckpointBytes(const TensorIndex& index, const CheckpointContents& contents) {
  // For the index, the manifest, and a header and a line of the manifest for each shard: a piece takes some 500 bytes in a
  // header and in the index, and its tensor's name.
  constexpr int64_t kOverhead = 64 << 10;
  constexpr int64_t kEntryOverhead = 1 << 10;
  auto bytes =
      kOverhead + static_cast<int64_t>(contents.state_json.size() + contents.config_toml.size());
  std::set<std::string> shards;
  for (const IndexedTensor& tensor : index.tensors) {
    const int64_t entry = kEntryOverhead + static_cast<int64_t>(tensor.name.size());
    bytes += 2 * entry;
    for (const TensorPiece& piece : tensor.pieces) {
      bytes += entry + kElement * piece.box.elements();
      shards.insert(piece.file);
    }
  }
  return bytes + kEntryOverhead * static_cast<int64_t>(shards.size());
}

absl::StatusOr<std::optional<ManifestFile>> WriteShard(FileSystem& fs, const std::string& folder,
                                                       const std::string& name,
                                                       const CheckpointContents& contents) {
  std::vector<TensorToWrite> pieces;
  for (const StateTensor& tensor : contents.tensors) {
    if (tensor.box.elements() == 0) continue;
    const IndexedTensor indexed{tensor.name, "F32", tensor.global_shape, tensor.view, {}};
    pieces.push_back(
        {PieceKey(indexed, tensor.box), "F32", tensor.box.shape, [&tensor](const auto& append) {
           return append(tensor.data, kElement * tensor.box.elements());
         }});
  }
  if (pieces.empty()) return std::nullopt;
  const std::map<std::string, std::string> metadata = {{"step", absl::StrCat(contents.step)}};
  ASSIGN_OR_RETURN(WrittenFile written,
                   WriteSafetensors(fs, JoinPath(folder, name), pieces, metadata));
  return ManifestFile{name, written.bytes, std::move(written.checksum)};
}

absl::Status CommitShards(FileSystem& fs, const std::string& folder, const TensorIndex& index,
                          const CheckpointContents& contents, std::vector<ManifestFile> shards) {
  std::vector<ManifestFile> files = std::move(shards);
  for (const auto& [name, text] :
       {std::pair(kTensorIndexName, FormatTensorIndex(index)),
        std::pair(kStateName, contents.state_json), std::pair(kConfigName, contents.config_toml)}) {
    ASSIGN_OR_RETURN(ManifestFile file, WriteTextFile(fs, folder, name, text));
    files.push_back(std::move(file));
  }
  return CommitCheckpoint(fs, folder, contents.step, contents.computed_by, std::move(files));
}

absl::Status CommitCheckpoint(FileSystem& fs, const std::string& folder, int64_t step,
                              const ComputedBy& computed_by, std::vector<ManifestFile> files) {
  Manifest manifest;
  manifest.files = std::move(files);
  manifest.extra = Json{{"checkpoint_version", kCheckpointVersion},
                        {"step", step},
                        {kComputedBy, ToJson(computed_by)}}
                       .dump();
  return CommitManifest(fs, folder, manifest);
}

absl::StatusOr<CommittedCheckpoint> VerifyCheckpoint(FileSystem& fs, const std::string& folder,
                                                     bool check_contents) {
  CommittedCheckpoint committed;
  ASSIGN_OR_RETURN(committed.manifest, ReadManifest(fs, folder));
  ASSIGN_OR_RETURN(committed.step, StepOf(committed.manifest, folder));
  RETURN_IF_ERROR(VerifyManifest(fs, folder, committed.manifest, check_contents));
  committed.computed_by = ComputedByOf(committed.manifest);
  return committed;
}

}  // namespace entrain
