// entrain export: a model as a Hugging Face folder.
#include <cstdio>
#include <memory>
#include <string>

#include "launcher/command_line.h"
#include "launcher/commands.h"
#include "launcher/compute_options.h"
#include "launcher/model_files.h"
#include "launcher/model_source.h"

namespace entrain {
namespace {

struct ExportCommandOptions {
  std::string model;
  std::string output;
  std::string dtype = "f32";
  bool raw_factors = false;
  bool overwrite = false;
};

absl::Status RunExport(const ExportCommandOptions& options) {
  FileSystem& fs = FileSystem::Posix();
  ASSIGN_OR_RETURN(const bool exists, fs.Exists(JoinPath(options.output, "config.json")));
  if (exists && !options.overwrite) {
    return absl::AlreadyExistsError(
        options.output + " holds a model already; choose another folder or add --overwrite");
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Context> context, MakeContext(DeviceChoice::kCpu, 0));
  ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(fs, options.model, *context, DType::kF32));
  loaded.model->transformer().BeginStep(*context, false);
  RETURN_IF_ERROR(WriteModelFolder(
      fs, options.output, *context, *loaded.model,
      {.dtype = *kDTypeNames.Find(options.dtype), .raw_factors = options.raw_factors}));
  std::printf("exported %s to %s (%s)\n", loaded.origin.c_str(), options.output.c_str(),
              options.dtype.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddExportCommand(CLI::App& app, SelectedCommand* selected) {
  auto options = std::make_shared<ExportCommandOptions>();
  CLI::App* command = app.add_subcommand(
      "export", "Write a model as a Hugging Face folder (config.json, model.safetensors)");
  AddModelOption(*command, &options->model);
  command->add_option("--output", options->output, "Folder to write; made when it is not there")
      ->required()
      ->check(NotEmpty());
  command->add_option("--dtype", options->dtype, "f32 or bf16")
      ->check(OneOf({"f32", "bf16"}))
      ->capture_default_str();
  command->add_flag(
      "--raw-factors", options->raw_factors,
      "Weight-normalised matrices as .weight_v and .weight_g, not the effective matrix");
  command->add_flag("--overwrite", options->overwrite, "Replace a model that is there");
  command->callback([options, selected] { *selected = [options] { return RunExport(*options); }; });
}

}  // namespace entrain
