// Where a model comes from: a checkpoint folder, a run folder (its latest checkpoint) or a Hugging Face folder.
#ifndef ENTRAIN_LAUNCHER_MODEL_SOURCE_H_
#define ENTRAIN_LAUNCHER_MODEL_SOURCE_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>

#include "model/model.h"
#include "runtime/io/file_system.h"

namespace entrain {

enum class ModelSourceKind { kCheckpoint, kRun, kModelFolder };

// --model, which must be given: a path for LoadModel.
void AddModelOption(CLI::App& command, std::string* model);

// Decides what kind of folder `path` is; NotFound says what each kind would hold.
absl::StatusOr<ModelSourceKind> KindOfModelSource(FileSystem& fs, const std::string& path);

struct LoadedModel {
  std::unique_ptr<Model> model;
  std::string origin;     // "runs/demo/checkpoints/step_00001000 (step 1000)"
  std::string tokenizer;  // of the run; "" for a Hugging Face folder
};

// Loads values only: for evaluation, sampling, export. A damaged newer checkpoint of a run is named on standard error and
// passed over.
absl::StatusOr<LoadedModel> LoadModel(FileSystem& fs, const std::string& path, Context& context,
                                      DType compute);

// The checkpoint that a checkpoint or run folder stands for.
absl::StatusOr<std::string> ResolveCheckpoint(FileSystem& fs, const std::string& path);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_MODEL_SOURCE_H_
