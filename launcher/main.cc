// The program: parses the command line, runs one subcommand, prints its error once, maps it to an exit code.
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include "absl/strings/str_cat.h"
#include "launcher/command_line.h"
#include "launcher/commands.h"
#include "launcher/encode_command.h"
#include "launcher/exit_status.h"
#include "launcher/process_group.h"
#include "launcher/tokenize_command.h"

namespace entrain {
namespace {

// All but train run in one process: of several ranks each would do, and write, the same.
absl::Status CheckAlone(const std::string& command) {
  if (command == "entrain train") return absl::OkStatus();
  ASSIGN_OR_RETURN(const LauncherFacts launcher, FindLauncher(ProcessEnvironment()));
  if (launcher.ranks <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      command, " runs in one process, and ", launcher.name, " started ", launcher.ranks, " (",
      launcher.evidence, "): only train is for several; start it without a launcher"));
}

int ReportUsage(const CLI::App& app, const CLI::ParseError& error) {
  const bool speaks = SpeaksForAll(ProcessEnvironment());
  if (error.get_exit_code() == 0) return speaks ? app.exit(error) : 0;  // --help, --version
  const auto unknown = DescribeUnknownWord(app);
  const std::string message =
      unknown ? *unknown
              : absl::StrCat(DescribeParseError(error), "; see ", CommandTitle(app), " --help");
  Tell(LeaveToTheFirst(absl::InvalidArgumentError(message))).IgnoreError();
  return static_cast<int>(ExitCode::kUsage);
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Entrain: trains GPT-scale language models with few non-linearities, and knows their "
      "attention's entropy");
  app.set_version_flag("--version", std::string("entrain ") + ENTRAIN_VERSION);
  app.require_subcommand(1);
  app.option_defaults()->disable_flag_override();  // a flag takes no value: --json=no is refused
  SelectedCommand selected;
  AddTrainCommand(app, &selected);
  AddEvalCommand(app, &selected);
  AddSampleCommand(app, &selected);
  AddExportCommand(app, &selected);
  AddInspectCommand(app, &selected);
  AddTokenizeCommand(app, &selected);
  AddEncodeCommand(app, &selected);
  AddDecodeCommand(app, &selected);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return ReportUsage(app, error);
  }
  const absl::Status alone = LeaveToTheFirst(CheckAlone(CommandTitle(app)));
  return static_cast<int>(ExitCodeOf(Tell(alone.ok() ? selected() : alone)));
}

}  // namespace
}  // namespace entrain

int main(int argc, char** argv) {
  // A file that may not grow further is then an error of the write, with a message, and not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
  // Libraries' exceptions are caught where they are called; one that is not is a defect, and is told as such.
  try {
    return entrain::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "entrain: unexpected error: %s\n", error.what());
    return static_cast<int>(entrain::ExitCode::kFailed);
  }
}
