#include "launcher/model_source.h"

#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/device_limits.h"
#include "launcher/model_files.h"
#include "launcher/state_on_host.h"
#include "launcher/train_config.h"
#include "launcher/train_state.h"
#include "parallel/checkpoint.h"
#include "runtime/io/manifest.h"

namespace entrain {
namespace {

constexpr char kCheckpoints[] = "checkpoints";

absl::StatusOr<std::string> LatestOfRun(FileSystem& fs, const std::string& run) {
  std::vector<DamagedCheckpoint> damaged;
  const auto latest = CheckpointStore(fs, JoinPath(run, kCheckpoints)).FindLatest(&damaged);
  for (const DamagedCheckpoint& bad : damaged) {
    std::fprintf(stderr, "entrain: passing over a damaged checkpoint: %s\n",
                 std::string(bad.reason.message()).c_str());
  }
  if (!latest.ok()) return latest.status();
  return latest->path;
}

// One to compute with, its values still to be read.
absl::StatusOr<std::unique_ptr<Model>> MakeModel(const ModelConfig& config, Context& context,
                                                 DType compute) {
  RETURN_IF_ERROR(CheckModelOnDevice(config, context.device()));
  auto model = std::make_unique<Model>(config);
  RETURN_IF_ERROR(CheckFreeMemory(
      context, model->params().BytesNeeded(compute, false) + model->FactorBytes(compute),
      "this model", "end what else takes memory there, or give another --device"));
  model->Allocate(context, compute, false);
  return model;
}

absl::StatusOr<LoadedModel> LoadCheckpointModel(FileSystem& fs, const std::string& path,
                                                Context& context, DType compute) {
  ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, path));
  ASSIGN_OR_RETURN(const TrainConfig config,
                   ParseTrainConfig(reader.config_toml(), JoinPath(path, "config.toml"), {}));
  LoadedModel loaded;
  ASSIGN_OR_RETURN(loaded.model, MakeModel(config.model, context, compute));
  StateOnHost state(context, ModelState(*loaded.model));
  RETURN_IF_ERROR(reader.Read(state.tensors(), true));
  state.Push();
  loaded.model->params().RefreshCompute(context);
  loaded.origin = absl::StrCat(path, " (step ", reader.step(), ")");
  loaded.tokenizer = config.data.tokenizer;
  return loaded;
}

absl::StatusOr<LoadedModel> LoadFolderModel(FileSystem& fs, const std::string& path,
                                            Context& context, DType compute) {
  ASSIGN_OR_RETURN(const ModelConfig config, ReadModelFolderConfig(fs, path));
  LoadedModel loaded;
  ASSIGN_OR_RETURN(loaded.model, MakeModel(config, context, compute));
  RETURN_IF_ERROR(ReadModelFolderWeights(fs, path, context, 0, *loaded.model));
  loaded.origin = path;
  return loaded;
}

}  // namespace

void AddModelOption(CLI::App& command, std::string* model) {
  command
      .add_option("--model", *model,
                  "Checkpoint folder, run folder (its latest) or Hugging Face folder")
      ->required();
}

absl::StatusOr<ModelSourceKind> KindOfModelSource(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const bool folder, fs.IsDirectory(path));
  if (folder) {
    ASSIGN_OR_RETURN(const bool manifest, fs.Exists(JoinPath(path, kManifestName)));
    if (manifest) return ModelSourceKind::kCheckpoint;
    ASSIGN_OR_RETURN(const bool run, fs.Exists(JoinPath(path, kCheckpoints)));
    if (run) return ModelSourceKind::kRun;
    ASSIGN_OR_RETURN(const bool model, fs.Exists(JoinPath(path, "config.json")));
    if (model) return ModelSourceKind::kModelFolder;
  }
  ASSIGN_OR_RETURN(const bool exists, fs.Exists(path));
  return absl::NotFoundError(
      absl::StrCat(path,
                   !exists  ? " does not exist"
                   : folder ? " holds no model"
                            : " is not a folder",
                   "; a model is a checkpoint folder (with manifest.json), a run folder (with "
                   "checkpoints/) or a "
                   "Hugging Face folder (with config.json and model.safetensors)"));
}

absl::StatusOr<std::string> ResolveCheckpoint(FileSystem& fs, const std::string& path) {
  ASSIGN_OR_RETURN(const ModelSourceKind kind, KindOfModelSource(fs, path));
  if (kind == ModelSourceKind::kCheckpoint) return path;
  if (kind == ModelSourceKind::kRun) return LatestOfRun(fs, path);
  return absl::InvalidArgumentError(absl::StrCat(
      path, " is a Hugging Face folder; this needs a checkpoint folder or a run folder"));
}

absl::StatusOr<LoadedModel> LoadModel(FileSystem& fs, const std::string& path, Context& context,
                                      DType compute) {
  ASSIGN_OR_RETURN(const ModelSourceKind kind, KindOfModelSource(fs, path));
  if (kind == ModelSourceKind::kModelFolder) return LoadFolderModel(fs, path, context, compute);
  ASSIGN_OR_RETURN(const std::string checkpoint, ResolveCheckpoint(fs, path));
  return LoadCheckpointModel(fs, checkpoint, context, compute);
}

}  // namespace entrain
