// entrain inspect: what is in a checkpoint, verified.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "launcher/commands.h"
#include "launcher/entropy_table.h"
#include "launcher/model_source.h"
#include "launcher/standard_output.h"
#include "launcher/train_config.h"
#include "launcher/train_state.h"
#include "parallel/checkpoint.h"
#include "runtime/io/manifest.h"

namespace entrain {
namespace {

struct InspectOptions {
  std::string checkpoint;
  bool tensors = false;
};

void PrintSummary(const CheckpointReader& reader, const TrainConfig& config,
                  const TrainCounters& counters, const Manifest& manifest) {
  int64_t bytes = 0;
  for (const ManifestFile& file : manifest.files) bytes += file.bytes;
  const ModelConfig& m = config.model;
  std::printf("checkpoint    %s\n", reader.path().c_str());
  std::printf("verified      %zu files, %.1f MB, every checksum holds\n", manifest.files.size(),
              static_cast<double>(bytes) / 1e6);
  std::printf("shards        %d\n", reader.num_shards());
  std::printf("step          %lld of %lld (%lld updates, %lld skipped as not finite)\n",
              static_cast<long long>(counters.step), static_cast<long long>(config.train.steps),
              static_cast<long long>(counters.updates), static_cast<long long>(counters.bad_steps));
  std::printf("tokens        %lld\n", static_cast<long long>(counters.tokens));
  std::printf(
      "architecture  %s: %lld layers, %lld heads, width %lld, context %lld, vocabulary %lld\n",
      m.architecture.c_str(), static_cast<long long>(m.layers), static_cast<long long>(m.heads),
      static_cast<long long>(m.width), static_cast<long long>(m.context),
      static_cast<long long>(m.vocab));
  std::printf("precision     %s\nseed          %llu\ndata          %s (%s)\n",
              counters.precision.c_str(), static_cast<unsigned long long>(counters.seed),
              config.data.train.c_str(), counters.data_fingerprint.c_str());
}

// As far as it was recorded.
void PrintComputedBy(const ComputedBy& by) {
  for (const auto& [name, text] : {std::pair("written by", by.program),
                                   {"device", by.device},
                                   {"libraries", by.libraries},
                                   {"collectives", by.collectives}}) {
    if (!text.empty()) std::printf("%-13s %s\n", name, text.c_str());
  }
}

void PrintTensors(const CheckpointReader& reader) {
  std::printf("\ntensors\n");
  for (const CheckpointReader::TensorInfo& tensor : reader.tensors()) {
    const std::string cut = tensor.cut.empty() ? "" : "  in " + tensor.cut;
    std::printf("  %-60s %s%s\n", tensor.name.c_str(), FormatShape(tensor.global_shape).c_str(),
                cut.c_str());
  }
}

absl::Status RunInspect(const InspectOptions& options) {
  FileSystem& fs = FileSystem::Posix();
  ASSIGN_OR_RETURN(const std::string path, ResolveCheckpoint(fs, options.checkpoint));
  ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(fs, path));
  ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(fs, path));
  ASSIGN_OR_RETURN(const TrainConfig config,
                   ParseTrainConfig(reader.config_toml(), JoinPath(path, "config.toml"), {}));
  ASSIGN_OR_RETURN(const TrainCounters counters, ParseTrainCounters(reader.state_json(), path));
  PrintSummary(reader, config, counters, manifest);
  PrintComputedBy(reader.computed_by());
  if (options.tensors) PrintTensors(reader);
  if (!counters.head_entropy.empty()) {
    std::printf("\n%s", EntropyTable(counters.head_entropy, config.model.context).c_str());
  }
  return FlushStandardOutput();
}

}  // namespace

void AddInspectCommand(CLI::App& app, SelectedCommand* selected) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand(
      "inspect", "Verify a checkpoint and show what is in it, with the last entropies");
  command
      ->add_option("checkpoint", options->checkpoint,
                   "Checkpoint folder or run folder (its latest)")
      ->required();
  command->add_flag("--tensors", options->tensors,
                    "List every tensor with its shape and how it is cut");
  command->callback(
      [options, selected] { *selected = [options] { return RunInspect(*options); }; });
}

}  // namespace entrain
