// The program: parses the command line, runs one subcommand, prints its error once, maps it to an exit code.
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include "launcher/command_line.h"
#include "launcher/commands.h"
#include "launcher/encode_command.h"
#include "launcher/exit_status.h"
#include "launcher/process_group.h"
#include "launcher/tokenize_command.h"

namespace entrain {
namespace {

// Of all ranks that were given the same wrong command line, one speaks.
int ReportUsage(const CLI::App& app, const CLI::ParseError& error) {
  const bool fine = error.get_exit_code() == 0;  // --help, --version
  if (SpeaksForAll(ProcessEnvironment())) {
    if (fine) {
      app.exit(error);
    } else if (const auto unknown = DescribeUnknownWord(app)) {
      std::fprintf(stderr, "entrain: %s\n", unknown->c_str());
    } else {
      std::fprintf(stderr, "entrain: %s; see %s --help\n", DescribeParseError(error).c_str(),
                   CommandTitle(app).c_str());
    }
  }
  return fine ? 0 : static_cast<int>(ExitCode::kUsage);
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
  return static_cast<int>(ExitCodeOf(Tell(selected())));
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
