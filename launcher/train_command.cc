// entrain train: the command line of a run, its lock, and its verdict on every way out.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launcher/commands.h"
#include "launcher/exit_status.h"
#include "launcher/run_lock.h"
#include "launcher/train_run.h"

namespace entrain {
namespace {

struct TrainOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string resume = "auto";
  TrainRunOptions run;
  bool help_config = false;
};

absl::Status Leave(FileSystem& fs, const std::string& run_dir, const Verdict& verdict) {
  RETURN_IF_ERROR(WriteVerdict(fs, run_dir, verdict));
  std::printf("%s (step %lld); verdict in %s\n", verdict.reason.c_str(),
              static_cast<long long>(verdict.step), JoinPath(run_dir, "verdict.json").c_str());
  if (verdict.code == ExitCode::kResubmit) {
    return absl::CancelledError("saved; start the same command again to continue");
  }
  return absl::OkStatus();
}

absl::Status RunTrain(TrainOptions options) {
  if (options.help_config) {
    std::fputs(DescribeConfigKeys().c_str(), stdout);
    return absl::OkStatus();
  }
  FileSystem& fs = FileSystem::Posix();
  ASSIGN_OR_RETURN(options.run.resume, ParseResumePolicy(options.resume));
  ASSIGN_OR_RETURN(const TrainConfig config, LoadTrainConfig(options.config, options.overrides));
  // A dry run leaves no trace: no folder, no lock, no verdict.
  std::optional<RunLock> lock;
  if (!options.run.dry_run) {
    ASSIGN_OR_RETURN(RunLock acquired, RunLock::Acquire(fs, config.run.dir));
    lock.emplace(std::move(acquired));
  }
  TrainRun run(fs, config, options.run);
  absl::Status status = run.SetUp();
  if (options.run.dry_run) return status;
  if (status.ok()) {
    const absl::StatusOr<Verdict> verdict = run.Run();
    if (verdict.ok()) return Leave(fs, config.run.dir, *verdict);
    status = verdict.status();
  }
  // The error itself matters more than a verdict that could not be written.
  WriteVerdict(fs, config.run.dir,
               run.VerdictSoFar(ExitCodeOf(status), std::string(status.message())))
      .IgnoreError();
  return status;
}

}  // namespace

void AddTrainCommand(CLI::App& app, SelectedCommand* selected) {
  auto options = std::make_shared<TrainOptions>();
  CLI::App* command = app.add_subcommand("train", "Train a model, or continue a run");
  CLI::Option* config =
      command->add_option("--config", options->config, "Configuration file (TOML)");
  command->add_option("--set", options->overrides,
                      "section.key=value, over the file; may be given many times");
  command
      ->add_option(
          "--resume", options->resume,
          "auto: continue if there is a checkpoint; never: refuse if there is one; must: refuse "
          "if there is none; or the number of a step")
      ->capture_default_str();
  command->add_flag("--dry-run", options->run.dry_run,
                    "Check configuration and data, print the memory it would take, and stop");
  command
      ->add_option("--stop-at", options->run.stop_at,
                   "Save and leave (exit code 75) after this step; 0: run to the end")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  CLI::Option* help = command->add_flag("--help-config", options->help_config,
                                        "Every configuration key with its default and meaning");
  command->footer(
      "Exit codes: 0 finished; 75 saved, start it again; 78 bad configuration; 2 bad command line; "
      "1 any "
      "other failure. They are also in <run.dir>/verdict.json.");
  command->callback([options, selected, config, help] {
    if (config->count() == 0 && help->count() == 0) throw CLI::RequiredError("--config");
    *selected = [options] { return RunTrain(*options); };
  });
}

}  // namespace entrain
