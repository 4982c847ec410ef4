// A model's weights ↔ a Hugging Face folder (config.json, model.safetensors).
#ifndef ENTRAIN_LAUNCHER_MODEL_FILES_H_
#define ENTRAIN_LAUNCHER_MODEL_FILES_H_

#include <functional>
#include <string>

#include "model/model.h"
#include "runtime/io/file_system.h"

namespace entrain {

// The configuration of a folder.
absl::StatusOr<ModelConfig> ReadModelFolderConfig(FileSystem& fs, const std::string& folder);

// Fills an allocated model from the folder's model.safetensors (F32, BF16 or F16; names with or without "transformer.").
// A weight-normalised matrix may come as its factors or as the effective matrix. Refused, by name: a tensor that is
// missing, of another shape, of an unknown name, or a switched-off bias that is not zero. Thresholds may be missing: they
// start at their initial value. Where tp ranks share the model each reads its part; `agree`, which makes the ranks' statuses
// one, comes before what they compute together.
using AgreeOnStatus = std::function<absl::Status(const absl::Status& mine)>;
absl::Status ReadModelFolderWeights(FileSystem& fs, const std::string& folder, Context& context,
                                    uint64_t seed, Model& model, const AgreeOnStatus& agree = {});

struct ExportOptions {
  DType dtype = DType::kF32;  // or kBf16
  // Weight-normalised matrices as `.weight_v` and `.weight_g`, to train on; else the effective matrix.
  bool raw_factors = false;
};

// Writes the folder: effective matrices, switched-off biases as zeros. The folder is made; files in it are replaced
// atomically, config.json last. BeginStep must have been called.
absl::Status WriteModelFolder(FileSystem& fs, const std::string& folder, Context& context,
                              const Model& model, const ExportOptions& options);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_MODEL_FILES_H_
