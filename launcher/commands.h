// The program's subcommands. Each Add* registers one with its options and help; parsing a command line that names it puts
// what is to be run into `selected`.
#ifndef ENTRAIN_LAUNCHER_COMMANDS_H_
#define ENTRAIN_LAUNCHER_COMMANDS_H_

#include <CLI/CLI.hpp>
#include <functional>

#include "absl/status/status.h"

namespace entrain {

using SelectedCommand = std::function<absl::Status()>;

void AddTrainCommand(CLI::App& app, SelectedCommand* selected);
void AddEvalCommand(CLI::App& app, SelectedCommand* selected);
void AddSampleCommand(CLI::App& app, SelectedCommand* selected);
void AddExportCommand(CLI::App& app, SelectedCommand* selected);
void AddInspectCommand(CLI::App& app, SelectedCommand* selected);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_COMMANDS_H_
