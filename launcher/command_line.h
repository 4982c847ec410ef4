// The command line beyond what CLI11 does by itself: what an option may be, and messages that name the nearest word.
#ifndef ENTRAIN_LAUNCHER_COMMAND_LINE_H_
#define ENTRAIN_LAUNCHER_COMMAND_LINE_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace entrain {

// What an option's value may be. A message names the value, what is allowed and, of names, the nearest.
CLI::Validator OneOf(const std::vector<std::string>& names);
// In decimal digits: nothing that could be taken for octal or hexadecimal.
CLI::Validator IntegerFrom(int64_t min, int64_t max = std::numeric_limits<int64_t>::max());
// Finite.
CLI::Validator NumberFrom(double min, double max = std::numeric_limits<double>::max());
CLI::Validator NotEmpty();

// After a parse that failed: the first word that no command and no option took, with the nearest name. Nothing when every
// word was known and the error is another one.
std::optional<std::string> DescribeUnknownWord(const CLI::App& app);

// What CLI11 says of an error, less its own terms.
std::string DescribeParseError(const CLI::ParseError& error);

// The command whose help tells more: "entrain eval", or "entrain" when none was named.
std::string CommandTitle(const CLI::App& app);

}  // namespace entrain

#endif  // ENTRAIN_LAUNCHER_COMMAND_LINE_H_
