// What is wrong with a command line, beyond what CLI11 says: the word that is not known, and the nearest one that is.
#ifndef ENTRAIN_LAUNCHER_COMMAND_LINE_H_
#define ENTRAIN_LAUNCHER_COMMAND_LINE_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

namespace entrain {

// After a parse that failed: the first word that no command and no option took, with the nearest name. Nothing when every
// word was known and the error is another one.
std::optional<std::string> DescribeUnknownWord(const CLI::App& app);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_COMMAND_LINE_H_
