#include "launcher/command_line.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/nearest_name.h"

namespace entrain {
namespace {

bool IsOption(const std::string& word) { return word.size() > 1 && word[0] == '-'; }

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::vector<std::string> OptionNames(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back(absl::StrCat("--", name));
  }
  return names;
}

// Of a range without an end only its beginning is worth telling.
template <typename Number>
std::string RangeText(Number min, Number max) {
  if (max == std::numeric_limits<Number>::max()) return absl::StrCat(">= ", min);
  return absl::StrCat("from ", min, " to ", max);
}

// Refuses every value that `fits` does not take. `in_help`: what the help says of it.
template <typename Fits>
CLI::Validator Refusing(const std::string& allowed, const std::string& in_help, Fits fits) {
  const auto check = [allowed, fits](const std::string& value) {
    return fits(value) ? std::string() : absl::StrCat("'", value, "' must be ", allowed);
  };
  return {check, in_help};
}

bool HasLeadingZero(const std::string& text) {
  const size_t digits = text.find_first_not_of("+-");
  return digits != std::string::npos && text[digits] == '0' && digits + 1 < text.size();
}

}  // namespace

CLI::Validator OneOf(const std::vector<std::string>& names) {
  const auto check = [names](const std::string& value) {
    if (std::find(names.begin(), names.end(), value) != names.end()) return std::string();
    return absl::StrCat("'", value, "' must be one of ", absl::StrJoin(names, ", "),
                        DidYouMean(value, names));
  };
  return {check, absl::StrCat("{", absl::StrJoin(names, ","), "}")};
}

CLI::Validator IntegerFrom(int64_t min, int64_t max) {
  const std::string range = RangeText(min, max);
  return Refusing("an integer " + range, range, [min, max](const std::string& text) {
    int64_t value = 0;
    return absl::SimpleAtoi(text, &value) && !HasLeadingZero(text) && value >= min && value <= max;
  });
}

CLI::Validator NumberFrom(double min, double max) {
  const std::string range = RangeText(min, max);
  return Refusing("a number " + range, range, [min, max](const std::string& text) {
    double value = 0;
    // Also false for what is no number at all: nan.
    return absl::SimpleAtod(text, &value) && value >= min && value <= max;
  });
}

CLI::Validator NotEmpty() {
  return Refusing("a path that is not empty", "",
                  [](const std::string& text) { return !text.empty(); });
}

std::string DescribeParseError(const CLI::ParseError& error) {
  const absl::string_view text = error.what();
  const size_t flag = text.find(" was given a disallowed flag override");
  return flag == absl::string_view::npos
             ? std::string(text)
             : absl::StrCat("--", text.substr(0, flag), " takes no value");
}

std::string CommandTitle(const CLI::App& app) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  return parsed.empty() ? "entrain" : absl::StrCat("entrain ", parsed.front()->get_name());
}

std::optional<std::string> DescribeUnknownWord(const CLI::App& app) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  // A word before the command is none of the command's.
  const bool before = parsed.empty() || parsed.front()->remaining().empty();
  const CLI::App& command = before ? app : *parsed.front();
  const std::vector<std::string> words = command.remaining();
  if (words.empty()) return std::nullopt;
  // A misspelt option leaves its value behind as well: the option is what matters.
  const auto option = std::find_if(words.begin(), words.end(), IsOption);
  const std::string& word = option != words.end() ? *option : words.front();
  if (parsed.empty() && !IsOption(word)) {
    const std::vector<std::string> names = CommandNames(app);
    return absl::StrCat("there is no command '", word, "'", DidYouMean(word, names),
                        "; commands: ", absl::StrJoin(names, ", "));
  }
  const std::string title = before ? "entrain" : CommandTitle(app);
  if (!IsOption(word)) {
    return absl::StrCat("'", word, "' is not expected here; see ", title, " --help");
  }
  const std::string name = word.substr(0, word.find('='));
  return absl::StrCat(title, " has no option ", name, DidYouMean(name, OptionNames(command)),
                      "; see ", title, " --help");
}

}  // namespace entrain
